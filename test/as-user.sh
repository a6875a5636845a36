#!/bin/sh
# Runs the tests that work on the kernel as an ordinary user. It is for root,
# who has just run them as root: both are promised to work.
#
# The user may not be able to read this folder, nor to build. So the tests are
# compiled here, and run in a copy with nothing but what they read:
# test/as-user.sh [PACKAGE FOLDER...]
set -eu

user=nobody
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# Kernel tests are those that make namespaces.
packages=${*:-$(grep -lrE 'lab\.Main\(|Cloneflags' --include='*_test.go' cmd pkg test | xargs -n1 dirname | sort -u)}

mkdir -m 755 "$tmp/src" "$tmp/bin"
mkdir -m 700 "$tmp/home"
chown "$user" "$tmp/home"
chmod 711 "$tmp"
tar --exclude=./.git --exclude=./bin -cf - . | tar -xf - -C "$tmp/src" --no-same-owner
chmod -R a+rX "$tmp/src"
go build -buildvcs=false -o "$tmp/bin/ipmasq" ./cmd/ipmasq

failed=
for p in $packages; do
	binary=$tmp/bin/$(echo "$p" | tr / -).test
	go test -c -o "$binary" "./$p"
	[ -e "$binary" ] || continue # only benchmarks of another system
	start=$(date +%s)
	if out=$(cd "$tmp/src/$p" && setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups \
		env HOME="$tmp/home" TMPDIR="$tmp/home" IPMASQ_PROGRAM="$tmp/bin/ipmasq" \
		"$binary" -test.timeout=10m </dev/null 2>&1); then
		echo "ok  	$p as $user	$(($(date +%s) - start))s"
	else
		echo "$out"
		echo "FAIL	$p as $user"
		failed=1
	fi
	rm -f "$binary"
done
[ -z "$failed" ]
