"""Seal and sign, and verify, an artifact of 270 MB, beside ``sha256sum`` of the same files.

The artifact is one weights file of random bytes and the small files of an adapter, on disk and in the page cache.
Sealing writes ``SHA256SUMS`` and signs with model-signing; verifying checks every file against the artifact id and the
signature. Both run in this process after one unmeasured round, since an import is paid once; ``sha256sum`` and
``sha256sum --check`` are processes of their own, as anyone would run them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from common import RESULTS, Spent, alternate, machine, ratio, save, spend, summary, table, timed

from modelsmith.artifacts.seal import describe, seal, verify_signed
from modelsmith.schema.source import BaseModelSource
from modelsmith.signing.keys import create_signing_key
from modelsmith.signing.oms import sign_directory

MEGABYTE = 1_000_000


def write_artifact(folder: Path, megabytes: int) -> None:
    """An adapter's folder with weights of that size."""
    folder.mkdir()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MEGABYTE))
        file.flush()
        os.fsync(file.fileno())
    config = {"base_model_name_or_path": "base", "peft_type": "LORA", "r": 16, "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": list(range(50_000))}), encoding="utf-8")
    base = BaseModelSource(name="base", uri="file://base", digest="sha256:" + "0" * 64, license="Apache-2.0")
    describe(folder, base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=270)
    arguments = parser.parse_args()
    facts = machine("model-signing", "cryptography")
    with tempfile.TemporaryDirectory(prefix="modelsmith-sealing-") as scratch:
        folder, key = Path(scratch) / "artifact", Path(scratch) / "key.pem"
        write_artifact(folder, arguments.megabytes)
        trusted = [create_signing_key(key)]
        artifact = seal(folder)
        sign_directory(folder, key)
        files = sorted(path.name for path in folder.iterdir() if path.name not in ("SHA256SUMS", "model.sig"))

        def seal_anew() -> Spent:
            for name in ("SHA256SUMS", "model.sig"):
                (folder / name).unlink()
            return timed(lambda: (seal(folder), sign_directory(folder, key)))

        subjects = {
            "seal and sign": seal_anew,
            "sha256sum": lambda: spend(["sha256sum", *files], folder),
            "verify": lambda: timed(lambda: verify_signed(folder, artifact, trusted)),
            "sha256sum --check": lambda: spend(["sha256sum", "--check", "SHA256SUMS"], folder),
        }
        for call in subjects.values():
            call()
        runs = alternate(subjects, arguments.repeats)
        size = sum((folder / name).stat().st_size for name in files)
    figures = {name: summary(own_runs) for name, own_runs in runs.items()}
    ratios = {
        "seal and sign": ratio(runs["seal and sign"], runs["sha256sum"]),
        "verify": ratio(runs["verify"], runs["sha256sum --check"]),
    }
    result = {
        "machine": facts,
        "bytes": size,
        "repeats": arguments.repeats,
        "seconds": figures,
        "ratio": ratios,
        "goal": {"ratio_at_most": 1.0, "met": all(measured_ratio["wall"] <= 1.0 for measured_ratio in ratios.values())},
    }
    save(RESULTS / "sealing.json", result)
    print(f"{size / MEGABYTE:.0f} MB in {len(files)} files\n")
    rows = [(name, f["median"], f["least"], f["most"], f["median_cpu"]) for name, f in figures.items()]
    print(table(("seconds", "median", "least", "most", "cpu"), rows))
    print(f"\nratio to sha256sum: seal and sign {ratios['seal and sign']['wall']}, verify {ratios['verify']['wall']}")


if __name__ == "__main__":
    main()
