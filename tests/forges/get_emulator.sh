#!/usr/bin/env bash
# Puts npm's `emulate`, a server of GitHub's shape that others wrote, and the node that it needs into the folder named by
# the first argument. What is fetched is fixed by the digests of emulator/package-lock.json; no package's script runs.
# Exits with 3 when it cannot be had here (no npm, no network, another machine than Linux on x86-64).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=$(mkdir -p "$1" && cd "$1" && pwd)
stamp=$(cat "$here/emulator/package-lock.json" | sha256sum)
[[ $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "The emulator of GitHub cannot be had here: $1" >&2; exit 3; }
command -v npm >/dev/null || unavailable "there is no npm"
[[ $(uname -sm) == "Linux x86_64" ]] || unavailable "its node is fetched for Linux on x86-64 only"
cp "$here/emulator/package.json" "$here/emulator/package-lock.json" "$target"
npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund --silent >&2 || unavailable "npm cannot fetch it"
echo "$stamp" >"$target/version"
