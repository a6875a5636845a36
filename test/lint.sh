#!/bin/sh
# Checks everything, then fails if anything was wrong: test/lint.sh STATICCHECK
set -u
failed=0
check() { # WHAT, and what is wrong on standard input
	if found=$(cat) && [ -n "$found" ]; then
		echo "lint: $1:"
		echo "$found" | sed 's/^/    /'
		failed=1
	fi
}
run() { # WHAT COMMAND...
	what=$1
	shift
	if out=$("$@" 2>&1); then return; fi
	echo "$out" | check "$what"
	failed=1
}

gofmt -l cmd pkg test | check "gofmt would change"
run "go vet" go vet -tags=vm ./...
run "staticcheck" go run "$1" -tags=vm ./...
run "go mod tidy would change" go mod tidy -diff

# A file is a subject, not a drawer.
find cmd pkg test -name '*.go' -exec wc -l {} + | awk '
	$2 == "total" { next }
	$2 ~ /_test\.go$/ { if ($1 > 800) print $2 " has " $1 " lines; a test file has at most 800"; next }
	$1 > 500 { print $2 " has " $1 " lines; a file has at most 500" }' | check "too long"

[ "$failed" = 0 ] && echo "lint: nothing to complain about"
exit "$failed"
