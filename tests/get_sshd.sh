#!/usr/bin/env bash
# Puts OpenSSH's server into the folder named by the first argument, without installing it, where the machine has none:
# the packages of this machine's own release, unpacked, from the mirror and by the keys that its own apt trusts.
# Exits with 3 when it cannot be had here (no apt, no network).
set -euo pipefail

target=$(mkdir -p "$1" && cd "$1" && pwd)
PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd >/dev/null && exit 0
[[ -x $target/sshd ]] && exit 0

unavailable() { echo "sshd cannot be had here: $1" >&2; exit 3; }
{ command -v apt-get && command -v dpkg-deb; } >/dev/null || unavailable "this is no machine with apt"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists/partial,cache/archives/partial,unpacked}
apt() {
  apt-get -qq -o Dir::State::lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o APT::Sandbox::User= \
    -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}
cd "$scratch"
apt update >&2 || unavailable "the package lists cannot be fetched"
apt download openssh-server libwrap0 >&2 || unavailable "the mirror does not hold it"
for package in ./*.deb; do dpkg-deb --extract "$package" unpacked; done
find unpacked -name 'libwrap.so.0*' -exec cp -P {} "$target" \;
for program in unpacked/usr/lib/openssh/sshd-*; do
  [[ -x $program ]] && install -m 0755 "$program" "$target"
done
install -m 0755 unpacked/usr/sbin/sshd "$target/.sshd.partial"
mv "$target/.sshd.partial" "$target/sshd"
