#!/usr/bin/env bash
# Puts cosign into the folder named by the first argument, without installing it: a Debian package, unpacked.
# The mirror is the one that this machine's own apt uses; the package is the one whose SHA-256 stands below.
# Exits with 3 when it cannot be had here (no apt, another architecture, no network); with 1 when the package is wrong.
set -euo pipefail

suite=trixie
version=2.5.0-2+b5
declare -A checksum=(
  [amd64]=3b6eadd27f3c4c00bfa7eab5c2397a6a15a763630c7a1d40d06ff60d24799eef
  [arm64]=158915eb65c7e024f596958972d76e7feef25355ffaa0dd57d27afb969103028
)

target=$(mkdir -p "$1" && cd "$1" && pwd)
stamp="cosign $version"
[[ -x $target/cosign && $(cat "$target/version" 2>/dev/null) == "$stamp" ]] && exit 0

unavailable() { echo "cosign cannot be had here: $1" >&2; exit 3; }
{ command -v apt-get && command -v dpkg-deb; } >/dev/null || unavailable "this is no machine with apt"
arch=$(dpkg --print-architecture)
[[ -n ${checksum[$arch]:-} ]] || unavailable "no checksum is written down for $arch"
release=$(. /etc/os-release && echo "$ID $VERSION_CODENAME")
[[ $release == debian\ * ]] || unavailable "this is no Debian"
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk -v suite="${release#debian }" '$2 == suite && $3 == "main" { print $1; exit }')
[[ -n $mirror ]] || unavailable "apt names no mirror for ${release#debian }"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{state/lists/partial,cache/archives/partial,unpacked}
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$scratch/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$scratch/state" -o Dir::State::status=/dev/null -o Dir::Cache="$scratch/cache" \
    -o APT::Sandbox::User= -o APT::Architectures="$arch" -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}
cd "$scratch"
apt update >&2 || unavailable "the package lists cannot be fetched"
apt download "cosign=$version" >&2 || unavailable "the mirror does not hold cosign $version of $suite"
package=$(echo "$scratch"/cosign_*.deb)
echo "${checksum[$arch]}  $package" | sha256sum --check --quiet >&2
dpkg-deb --extract "$package" unpacked
install -m 0755 unpacked/usr/bin/cosign "$target/.cosign.partial"
mv "$target/.cosign.partial" "$target/cosign"
echo "$stamp" >"$target/version"
