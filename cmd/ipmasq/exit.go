package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/daemon"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Exit codes. Scripts are written against them; see ipmasq help exit-codes.
const (
	exitDone         = 0
	exitFailed       = 1
	exitDifferent    = 2
	exitInvalid      = 3
	exitNotPermitted = 4
	exitUsage        = 64
)

const exitCodesHelp = `Exit codes:
  0   done; plan, status, explain --live: there is no difference; doctor: nothing is wrong
  1   failed, and the kernel is as it was; test: something is not as expected
  2   plan, status, explain --live: a difference, or drift; apply: in force, but not all
      flows that it contradicts are cut; doctor: something is wrong; import: not all
      was expressed
  3   the policy is invalid, or its tests are
  4   not permitted; the message says which capability is missing
  64  wrong usage
`

// errDifferent ends plan and status when there is a difference. It is not
// printed.
var errDifferent = errors.New("there is a difference")

// usageError is a wrong command line.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// unreadable is a policy that could not be read, which no capability mends.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// lacking is an error that a capability other than CAP_NET_ADMIN would mend.
type lacking struct {
	error
	hint string
}

func (l lacking) Unwrap() error { return l.error }

// advised is an error that has a way round.
type advised struct {
	error
	hint string
}

func (a advised) Unwrap() error { return a.error }

// invalid is a policy with mistakes, and the text to show them in.
type invalid struct {
	policy.Errors
	sources []policy.Source
}

func (i *invalid) Unwrap() error { return i.Errors }

// notPermitted says itself what is missing.
type notPermitted struct{ error }

// report prints an error as its kind asks for, and gives the exit code.
func (p *program) report(err error) int {
	var bad *invalid
	var usage usageError
	var file unreadable
	var cap lacking
	var way advised
	var path *fs.PathError
	var writable *untrusted
	var old outdated
	var tests wrongTests
	var lacks notPermitted
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDifferent):
		return exitDifferent
	case errors.Is(err, errTestFailed):
		return exitFailed
	case errors.As(err, &bad):
		policy.Print(p.stderr, bad.Errors, bad.sources)
		p.errorf("the policy is invalid: %s", counted(len(bad.Errors), "mistake", "mistakes"))
		return exitInvalid
	case errors.As(err, &tests), errors.Is(err, daemon.ErrMistakes):
		p.errorf("%v", err)
		return exitInvalid
	case errors.As(err, &usage):
		p.errorf("%v", err)
		return exitUsage
	case errors.As(err, &lacks):
		p.errorf("%v", err)
		p.hintf("run it as root, or with sudo")
		return exitNotPermitted
	}
	p.errorf("%v", err)
	p.hintUnconfirmed(err)
	switch {
	case errors.As(err, &way):
		p.hintf("%s", way.hint)
	case errors.As(err, &writable):
		p.hintf("%s", writable.hint())
	case errors.As(err, &old):
		old.explain(p)
	case errors.Is(err, backend.ErrNoProgram):
		p.hintf("install the package iptables, or have PATH name the folder that it is in, as /usr/sbin")
	}
	switch {
	case !errors.Is(err, fs.ErrPermission) || errors.As(err, &file):
		return exitFailed
	case errors.Is(err, sysctl.ErrReadOnly): // it says what to do
	case errors.As(err, &cap):
		p.hintf("%s", cap.hint)
	case errors.Is(err, syscall.EACCES) && hasNetAdmin():
		p.hintf("the capability CAP_NET_ADMIN is there, and the file is another user's: run it as that user, give the file to this one, or keep the state elsewhere with --state-dir")
	case errors.As(err, &path) && !strings.HasPrefix(path.Path, "/proc/"):
		p.hintf("the capability CAP_DAC_OVERRIDE is needed to use what another user keeps there: run it as root, or with sudo")
	default:
		p.hintf("the capability CAP_NET_ADMIN is needed in the network namespace that ipmasq works on: run it as root, or with sudo")
	}
	return exitNotPermitted
}

// hasNetAdmin says whether the process has the capability, wherever that may
// count: then it is not what is missing to open a file.
func hasNetAdmin() bool {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(line, 16, 64)
	const netAdmin = 12 // capability.h
	return err == nil && caps&(1<<netAdmin) != 0
}
