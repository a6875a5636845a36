#!/bin/sh
# Fetches the peers that this machine has not got into a folder: out of Debian's
# packages, which are unpacked and not installed, so that no firewall is ever
# enabled here: test/reliability/fetch.sh FOLDER
#
# What is there is kept. Remove the folder to get newer packages. What cannot be
# fetched is left out of the comparison, which says so.
set -eu

dir=$1
[ ! -e "$dir/done" ] || exit 0

missing=
need() { # PROGRAM PACKAGE
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need iptables iptables
need ferm ferm
need shorewall shorewall
need ufw ufw
need firewalld firewalld
need dbus-daemon dbus-daemon
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
	echo "fetch: not found:$missing"
	echo "fetch: the comparison goes without them"
	exit 0
fi
echo "fetch into $dir:$missing"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial"

# The machine's sources, and what it has installed; lists and packages are ours.
ours() {
	"$@" -q -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Debug::NoLocking=true \
		-o Dir::State::lists="$tmp/lists" -o Dir::Cache="$tmp/cache" >/dev/null
}
ours apt-get update
# shellcheck disable=SC2086 # a word each
ours apt-get install -y --download-only $missing

rm -rf "$dir"
mkdir -p "$dir/etc" "$dir/usr/lib" "$dir/usr/sbin" "$dir/usr/bin" "$dir/var"
# Debian's / has its programs in /usr, whichever of the two a package says.
for name in lib sbin bin; do ln -s "usr/$name" "$dir/$name"; done
for deb in "$tmp/cache/archives"/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --keep-directory-symlink --no-same-owner
done
# What the installation of ufw would have done.
if [ -d "$dir/usr/share/ufw" ]; then
	cp "$dir"/usr/share/ufw/iptables/*.rules "$dir"/usr/share/ufw/*.init "$dir/usr/share/ufw/ufw.conf" "$dir/etc/ufw/"
fi
echo "$missing" >"$dir/done"
