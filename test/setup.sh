#!/bin/sh
# Sees to the programs that some tests compare ipmasq with. As root, with apt,
# it installs what is missing; else it says so, and the tests that need it are
# skipped on a desk and fail where CI is set. With the argument vm it is about
# what make test-vm needs.
set -eu

missing=
need() { # PROGRAM PACKAGE
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
if [ "${1-}" = vm ]; then
	need qemu-system-x86_64 qemu-system-x86
	need dpkg-deb dpkg
else
	need nft nftables
	need iptables iptables
	need ipset ipset
	need conntrack conntrack
	need ip iproute2
	need ps procps
	need curl curl
	need vsftpd vsftpd
	need systemd-analyze systemd
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "setup: install$missing"
	export DEBIAN_FRONTEND=noninteractive
	# Tests start the FTP server themselves; the host is not to have one.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	apt-get update -qq </dev/null
	# shellcheck disable=SC2086 # a word each
	apt-get install -qq -y --no-install-recommends $missing </dev/null >/dev/null
	case $missing in
	*vsftpd*) update-rc.d vsftpd disable >/dev/null ;;
	esac
	exit 0
fi
echo "setup: not found:$missing"
echo "setup: tests that need one of them are skipped; on Debian: sudo apt-get install$missing"
