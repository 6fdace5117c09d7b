#!/usr/bin/env bash
# Puts npm's oidc-provider, a real identity provider, into the folder named by the first argument; versions and digests
# of it and of all below it stand in tests/agents/oidc/package-lock.json. No script of a package is run.
# Exits with 3 when it cannot be had here (no npm, no node of version 20 or newer, no network).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)/oidc
target=$(mkdir -p "$1" && cd "$1" && pwd)
stamp=$(sha256sum <"$here/package-lock.json")
cp "$here/package.json" "$here/package-lock.json" "$here/provider.mjs" "$target"
[[ -d $target/node_modules && $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "oidc-provider cannot be had here: $1" >&2; exit 3; }
command -v npm >/dev/null || unavailable "there is no npm"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || unavailable "node 20 or newer is needed"
cd "$target"
npm ci --silent --ignore-scripts --no-audit --no-fund || unavailable "npm cannot fetch it"
echo "$stamp" >"$target/version"
