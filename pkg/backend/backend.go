// Package backend is the contract between the engine and what puts rules into
// a kernel.
package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Backend is one way to have the kernel filter and translate. Implementations
// touch nothing but what is ours.
type Backend interface {
	// Name is "nftables" or "iptables".
	Name() string
	// Want reduces a compiled policy to the form in which Have reads the
	// kernel. It asks the kernel nothing.
	Want(*ruleset.Ruleset) (*plan.Snapshot, error)
	// Probe says which generation of rules is in force, at the cost of one
	// question; ErrNotSupported where the kernel lacks what is needed. Equal
	// generations mean equal rules. Zero is never equal.
	Probe(context.Context) (generation uint32, err error)
	// Have reads what of ours is in the kernel; an empty snapshot where
	// nothing is.
	Have(context.Context) (*plan.Snapshot, error)
	// HaveAfter is Have right after a commit of changes. What the commit had no
	// hand in need not be read where nobody else has committed since. With no
	// changes it is Have of what is known to be changes.To, for the sake of its
	// counters, where the kernel still is of the generation of changes.From.
	HaveAfter(ctx context.Context, changes *plan.Changes) (*plan.Snapshot, error)
	// Commit carries the changes out whole or not at all, provided that the
	// kernel still is of the generation of changes.From (ErrStale if not). A
	// dry run has the kernel check them and changes nothing.
	Commit(ctx context.Context, changes *plan.Changes, dryRun bool) error
}

// What a caller can act on.
var (
	// ErrStale says that somebody changed the kernel's rules since they were
	// read: read again.
	ErrStale = errors.New("the kernel's rules were changed by somebody else in the meantime")
	// ErrOwned says that the rules belong to a process that lives, and that no
	// other may change them.
	ErrOwned = errors.New("a running daemon owns the rules (ipmasq run --own-table): edit the files that it watches, or stop it")
	// ErrNotSupported says that the kernel cannot do this at all.
	ErrNotSupported = errors.New("not supported by this kernel")
	// ErrNoProgram says that a program that the backend runs is nowhere that
	// PATH names.
	ErrNoProgram = errors.New("there is no such program in PATH")
)

// Refused says which object the kernel did not take, and for which entry of
// the policy it was meant.
type Refused struct {
	Object string // as "rule of chain forward"
	Origin ruleset.Origin
	By     string // who did not take it; "" is the kernel
	Err    error
}

// Error gives the place in the policy, the entry, the object, and the kernel's
// reason.
func (r *Refused) Error() string {
	var b strings.Builder
	if p := r.Origin.Place.String(); p != "" {
		b.WriteString(p + ": ")
	}
	if r.Origin.Entry != "" {
		b.WriteString(r.Origin.Entry + ": ")
	}
	fmt.Fprintf(&b, "%s refuses %s: %v", cmp.Or(r.By, "the kernel"), r.Object, r.Err)
	return b.String()
}

// Unwrap gives the kernel's reason.
func (r *Refused) Unwrap() error { return r.Err }

// Inexpressible is what a backend cannot say of a policy, whatever the kernel.
type Inexpressible []*Refused

// Error gives one line for each thing.
func (i Inexpressible) Error() string {
	lines := make([]string, len(i))
	for n, r := range i {
		lines[n] = r.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each of them.
func (i Inexpressible) Unwrap() []error {
	out := make([]error, len(i))
	for n, r := range i {
		out[n] = r
	}
	return out
}
