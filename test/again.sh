#!/bin/sh
# Runs tests again that `go test` has just run: the packet tests on both variants
# of iptables, what of the gallery is about rules on one, and, for root, those that
# work on the kernel as an ordinary user, who is promised that they work too.
#
# The user may not be able to read this folder, nor to build. So the tests are
# compiled here, and run in a copy with nothing but what they read:
# test/again.sh [PACKAGE FOLDER...] runs these as the user alone.
#
# As many run at the same time as there are processors, and one more: they mostly
# wait. The longest come first.
set -eu

user=nobody
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
mkdir -m 755 "$tmp/src" "$tmp/bin"
chmod 711 "$tmp"

# What of the packet tests an ordinary user runs, on each backend: each kind of
# translation, the rules, the leak guard, and that nothing is left. All of them
# would take too long in CI: `test/again.sh test/packet` has the user run them.
few='^(TestMasquerade|TestSNATOrder|TestOneToOne|TestPortForward|TestPortForwardMap|TestHairpin|TestRedirectProxy|TestForwardRules|TestInput|TestGuardStrays|TestDelete.*|TestApplyAgain|TestLog|TestLimitPortForward)$'

# What of the gallery runs again: our chains on iptables beside those of others. The
# other variant is that of TestSharedChains wherever iptables-nft is what is called
# iptables. All of it takes a minute: `test/again.sh test/gallery` has the user run it.
rules='^(TestRules|TestNeighbors|TestSharedChains)$'

# A line is a job: where, as whom, on which backend, and which tests.
jobs=$tmp/jobs
if [ $# = 0 ]; then
	for variant in iptables-legacy iptables-nft; do
		echo "test/packet $(id -un) $variant ."
	done >"$jobs"
	as=$(id -un)
	[ "$(id -u)" != 0 ] || as=$user
	echo "test/gallery $as iptables-legacy $rules" >>"$jobs"
fi
if [ "$(id -u)" = 0 ]; then
	# Kernel tests are those that make namespaces.
	packages=${*:-$(grep -lrE 'lab\.Main\(|Cloneflags' --include='*_test.go' cmd pkg test | xargs -n1 dirname | sort -u)}
	for p in test/packet test/gallery $packages; do
		grep -q "^$p $user nftables" "$jobs" 2>/dev/null && continue
		# What these do as root and as a user is hardly different.
		case "$#$p" in 0test/gallery | 0pkg/compile | 0test/reliability | 0test/adopt | 0test/interop) continue ;; esac
		tests=.
		[ $# != 0 ] || [ "$p" != test/packet ] || tests=$few
		case " $(echo $packages) " in *" $p "*) echo "$p $user nftables $tests" ;; esac
	done >>"$jobs"
	if [ $# = 0 ]; then
		for variant in iptables-legacy iptables-nft; do
			echo "test/packet $user $variant $few"
		done >>"$jobs"
	fi
	tar --exclude=./.git --exclude=./bin -cf - . | tar -xf - -C "$tmp/src" --no-same-owner
	chmod -R a+rX "$tmp/src"
else
	tar --exclude=./.git --exclude=./bin -cf - . | tar -xf - -C "$tmp/src"
fi
go build -buildvcs=false -o "$tmp/bin/ipmasq" ./cmd/ipmasq
for p in $(cut -d' ' -f1 "$jobs" | sort -u); do
	go test -c -o "$tmp/bin/$(echo "$p" | tr / -).test" "./$p"
done

cat >"$tmp/job" <<'END'
# As an own script, for xargs: one job.
tmp=$1 p=$2 as=$3 backend=$4 tests=$5
binary=$tmp/bin/$(echo "$p" | tr / -).test
[ -e "$binary" ] || exit 0 # only benchmarks of another system
what="$p as $as"
[ "$backend" = nftables ] || what="$what on $backend"
[ "$tests" = . ] || what="$what, some"
home=$(mktemp -d "$tmp/home.XXXXXX")
run=
# What both variants do in hundreds of rounds, root alone sees, and what worries
# the kernel for long, on one variant.
long='^(TestKilledBetweenBackends|TestOracleIPTables|TestExamplesOnIPTables)$'
if [ "$as" = "$(id -un)" ]; then
	case $backend in
	iptables-legacy) long='^TestRunSoak$' ;;
	iptables-nft) long='^TestKilledUnderTraffic$' ;;
	*) long='^$' ;;
	esac
fi
if [ "$as" != "$(id -un)" ]; then
	chown "$as" "$home"
	run="setpriv --reuid=$as --regid=$(id -g "$as") --clear-groups"
fi
start=$(date +%s)
if (cd "$tmp/src/$p" && $run env HOME="$home" TMPDIR="$home" IPMASQ_PROGRAM="$tmp/bin/ipmasq" IPMASQ_TEST_BACKEND="$backend" \
	"$binary" -test.timeout=10m -test.run "$tests" -test.skip "$long" </dev/null >"$home.out" 2>&1); then
	echo "ok  	$what	$(($(date +%s) - start))s"
else
	cat "$home.out"
	echo "FAIL	$what"
	exit 1
fi
END
xargs -P $(($(nproc) + 1)) -n 4 sh "$tmp/job" "$tmp" <"$jobs"
