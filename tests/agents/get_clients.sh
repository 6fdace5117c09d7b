#!/usr/bin/env bash
# Puts the clients and checkers of others into the folder named by the first argument: Claude Code, Codex, MCP's
# conformance suite and inspector, and the node that they need, of the versions and checksums in clients/package-lock.json.
# npm holds each package against its checksum there. No script of a package runs while it is fetched; Claude Code's own
# runs afterwards, which puts its program in place.
# Exits with 3 when they cannot be had here (no npm, no network).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)/clients
target=$(mkdir -p "$1" && cd "$1" && pwd)
stamp=$(cat "$here"/package*.json | sha256sum)
[[ $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "The clients of others cannot be had here: $1" >&2; exit 3; }
command -v npm >/dev/null || unavailable "there is no npm"
cp "$here"/package*.json "$target/"
cd "$target"
npm install --no-save --ignore-scripts --silent --no-fund --no-audit || unavailable "npm cannot fetch them"
node=$(dirname "$(ls node_modules/node-*/bin/node 2>/dev/null || command -v node)")
"$node/node" node_modules/@anthropic-ai/claude-code/install.cjs
ln -sfn "$(realpath "$node")" node
echo "$stamp" >version
