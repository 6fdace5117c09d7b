#!/usr/bin/env bash
# Puts GitHub's description of its REST answers into the folder named by the first argument, cut to what the tests
# serve: the npm package @octokit/openapi, whose SHA-256 stands below. Nothing of it is installed or run.
# Exits with 3 when it cannot be had here (no npm, no network); with 1 when the package is wrong.
set -euo pipefail

version=23.0.2
checksum=71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c

here=$(cd "$(dirname "$0")" && pwd)
target=$(mkdir -p "$1" && cd "$1" && pwd)
stamp="$version $(sha256sum <"$here/../github_openapi.py")"
[[ -s $target/served.json && $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "GitHub's description cannot be had here: $1" >&2; exit 3; }
command -v npm >/dev/null || unavailable "there is no npm"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
npm pack --silent "@octokit/openapi@$version" >/dev/null || unavailable "npm cannot fetch @octokit/openapi $version"
echo "$checksum  octokit-openapi-$version.tgz" | sha256sum --check --quiet >&2
tar --extract --gzip --file "octokit-openapi-$version.tgz" package/generated/api.github.com.json
"${PYTHON:-python3}" "$here/../github_openapi.py" package/generated/api.github.com.json "$target/served.json"
echo "$stamp" >"$target/version"
