#!/usr/bin/env bash
# Puts GitHub's descriptions of its answers into the folder named by the first argument, cut to what the tests serve:
# the npm packages @octokit/openapi (REST) and @octokit/graphql-schema, whose SHA-256 stand below. Nothing of them is
# installed or run. The first argument's folder gets served.json and served.graphql.
# Exits with 3 when it cannot be had here (no npm, no network); with 1 when the package is wrong.
set -euo pipefail

version=23.0.2
checksum=71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c
graphql=15.26.1
graphql_checksum=053e74249dafce2118fd9b7ae499b067d57c5f910c57745699ac45108bc68d1e

here=$(cd "$(dirname "$0")" && pwd)
target=$(mkdir -p "$1" && cd "$1" && pwd)
sources=("$here/../github_openapi.py" "$here/../github_graphql.py" "$here/../../modelsmith/forges/github/queue.py")
stamp="$version $graphql $(cat "${sources[@]}" | sha256sum)"
[[ -s $target/served.json && -s $target/served.graphql && $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "GitHub's description cannot be had here: $1" >&2; exit 3; }
command -v npm >/dev/null || unavailable "there is no npm"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
npm pack --silent "@octokit/openapi@$version" >/dev/null || unavailable "npm cannot fetch @octokit/openapi $version"
echo "$checksum  octokit-openapi-$version.tgz" | sha256sum --check --quiet >&2
tar --extract --gzip --file "octokit-openapi-$version.tgz" package/generated/api.github.com.json
"${PYTHON:-python3}" "$here/../github_openapi.py" package/generated/api.github.com.json "$target/served.json"
npm pack --silent "@octokit/graphql-schema@$graphql" >/dev/null ||
  unavailable "npm cannot fetch @octokit/graphql-schema $graphql"
echo "$graphql_checksum  octokit-graphql-schema-$graphql.tgz" | sha256sum --check --quiet >&2
tar --extract --gzip --file "octokit-graphql-schema-$graphql.tgz" package/schema.graphql
"${PYTHON:-python3}" "$here/../github_graphql.py" package/schema.graphql "$target/served.graphql"
echo "$stamp" >"$target/version"
