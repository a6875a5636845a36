#!/bin/sh
# Fetches what the virtual machine is made of into a folder: Debian's kernels
# and a few programs, out of packages that are unpacked and not installed:
# test/vm/fetch.sh FOLDER
#
# What is there is kept, unless other programs are wanted. Remove the folder to get newer packages.
set -eu

dir=$1
programs="busybox-static iproute2 nftables iptables ipset ppp wireguard-tools conntrack"

# A suite and what its kernel is called here, the oldest first.
kernels="bullseye:5.10 bookworm:6.1"
userland=bookworm

wanted=
[ "$(cat "$dir/programs/done" 2>/dev/null)" = "$programs" ] || wanted=programs
for k in $kernels; do [ -e "$dir/kernel-${k#*:}/done" ] || wanted="$wanted ${k#*:}"; done
[ -n "$wanted" ] || exit 0
echo "fetch into $dir: $wanted"

# The mirror is the machine's own, and apt's lists are ours: the machine's
# apt learns of no other suite.
repo() { # LABEL
	apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk -v want="$1" '$1 == want { print $2; exit }'
}
debian=$(repo Debian)
security=$(repo Debian-Security)
if [ -z "$debian" ] || [ -z "$security" ]; then
	echo "fetch: this machine's apt has no sources of Debian and Debian-Security" >&2
	exit 1
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# apt for a machine with nothing on it: SUITE COMMAND...
suite_apt() {
	apt=$tmp/$1
	tool=$2
	shift 2
	"$tool" -q -o APT::Architecture=amd64 -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Debug::NoLocking=true \
		-o Dir::State="$apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" \
		-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null "$@"
}
suite_open() { # SUITE
	[ ! -e "$tmp/$1" ] || return 0
	mkdir -p "$tmp/$1/state/lists/partial" "$tmp/$1/cache/archives/partial"
	for source in "$debian $1" "$security $1-security"; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source main"
	done >"$tmp/$1/sources.list"
	suite_apt "$1" apt-get update >/dev/null
}
unpack() { # FOLDER DEB...
	to=$1
	shift
	rm -rf "$to"
	mkdir -p "$to"
	for deb; do dpkg-deb -x "$deb" "$to"; done
}

mkdir -p "$dir"
for k in $kernels; do
	suite=${k%:*} to=$dir/kernel-${k#*:}
	[ ! -e "$to/done" ] || continue
	suite_open "$suite"
	name=$(suite_apt "$suite" apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
	(cd "$tmp" && suite_apt "$suite" apt-get download "$name" >/dev/null)
	unpack "$to" "$tmp/${name}"_*.deb
	echo "$name" >"$to/done"
done
if [ "$(cat "$dir/programs/done" 2>/dev/null)" != "$programs" ]; then
	suite_open "$userland"
	# shellcheck disable=SC2086 # a word each
	suite_apt "$userland" apt-get install -y --download-only $programs >/dev/null
	unpack "$dir/programs" "$tmp/$userland/cache/archives"/*.deb
	echo "$programs" >"$dir/programs/done"
fi
# depmod runs where the kernel is installed; here nobody has run it.
for k in $kernels; do
	to=$dir/kernel-${k#*:}
	for modules in "$to"/lib/modules/* "$to"/usr/lib/modules/*; do
		[ -d "$modules" ] || continue
		[ -e "$modules/modules.dep" ] || "$dir/programs/bin/busybox" depmod -b "${modules%/lib/modules/*}" "${modules##*/}"
	done
done
