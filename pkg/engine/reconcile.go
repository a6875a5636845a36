package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// The kernel asks the rules about the first packet of a flow alone: what they
// said then holds until the flow ends. So whatever a new policy contradicts is
// taken out of the kernel's table, once it is in force: the next packet is a
// new flow, about which the new rules are asked. Between the commit and that
// moment the old translation goes on; nothing can come back by it later.

// Cut is which flows a policy contradicts.
type Cut struct {
	Total int
	// By says why, most flows first; Flows are the first of them, no more than
	// cutListed.
	By    []CutBy
	Flows []CutFlow
	// Problem is why flows could not be cut, or not be told; the rules are what
	// they are all the same. Retries says that the next apply tries again.
	Problem error
	Retries bool
}

// CutBy are flows that are cut for one reason, such as "would be dropped".
// Entry is what translated them or, where nothing of ours did, what would
// translate, drop or reject them.
type CutBy struct {
	Entry string // section and name
	Why   string
	Flows int // 0 in a CutFlow
}

// String gives "2 of port_forward web, which would go to 10.0.0.7:80".
func (b CutBy) String() string {
	if b.Why == flows.Missing {
		return fmt.Sprintf("%d untranslated of %s", b.Flows, b.Entry)
	}
	return fmt.Sprintf("%d of %s, which %s", b.Flows, b.Entry, b.Why)
}

// CutFlow is a flow that is cut, and why.
type CutFlow struct {
	conntrack.Flow
	By CutBy
}

const (
	// cutListed bounds the flows that a plan holds: there may be a million.
	cutListed = 10_000
	// cutReasons bounds the reasons: a map may have as many targets as lines.
	cutReasons = 1000
)

// open says whether the namespace has any flows, by the kernel's own count.
func (e *Engine) open() bool {
	count := "0"
	_ = e.NetNS.Do(func() (err error) {
		count, err = sysctl.Get("net/netfilter/nf_conntrack_count")
		return err
	})
	return count != "0" && count != ""
}

// toReconcile is what the state has to remember of an apply until flows are
// cut. Nil where there is nothing to cut.
func (e *Engine) toReconcile(pl *Plan) *state.Pending {
	if !pl.unsettled || e.KeepFlows || !e.open() {
		return nil
	}
	return &state.Pending{Before: pl.earlier}
}

// pending is what a state says of flows that are yet to be cut. An apply that
// died may have put rules in force of which only the policy is stored.
func (e *Engine) pending(s *state.State) *state.Pending {
	died := e.State.Unnamed(s)
	if len(died) == 0 {
		return s.Pending
	}
	return &state.Pending{Before: append(earlier(s, ""), died...)}
}

// begun is what a state says of an apply that has not come to its end: its policy
// may be in force.
func begun(before *state.State, digest string) *state.Pending {
	return &state.Pending{Before: append(earlier(before, digest), digest)}
}

// earlier are the policies before one that may have translated open flows.
func earlier(s *state.State, now string) []string {
	var out []string
	if s.Pending != nil {
		out = slices.Clone(s.Pending.Before)
	}
	if s.Applied != nil && !slices.Contains(out, s.Applied.Digest) {
		out = append(out, s.Applied.Digest)
	}
	return slices.DeleteFunc(out, func(digest string) bool { return digest == now })
}

// wouldCut finds what an apply of the plan would cut.
func (e *Engine) wouldCut(ctx context.Context, pl *Plan) {
	if !pl.unsettled || e.KeepFlows || !e.open() {
		return
	}
	defer e.step("flows")()
	if err := e.reconcile(ctx, pl, false); err != nil {
		pl.Cut.Problem = err
	}
}

// cut cuts the flows that the plan, which is in force now, contradicts. The
// state remembers that until it is done.
func (e *Engine) cut(ctx context.Context, pl *Plan) {
	if pl.remembered.Pending == nil {
		return
	}
	defer e.step("flows")()
	err := e.reconcile(ctx, pl, true)
	if err == nil {
		pl.remembered.Pending = nil
		err = e.State.Save(pl.remembered)
	}
	if err != nil {
		pl.Cut.Problem, pl.Cut.Retries = err, true
	}
}

// reconcile judges every flow of the namespace, and deletes those that the plan
// contradicts if it is to.
func (e *Engine) reconcile(ctx context.Context, pl *Plan, deletes bool) error {
	defer func() { pl.rules = nil }()
	r, err := e.reconciler(pl)
	if err != nil {
		return err
	}
	err = e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		if deletes {
			r.deletes = c
		}
		err = c.List(&conntrack.Filter{}, func(f *conntrack.Flow) bool {
			r.see(f)
			return ctx.Err() == nil
		})
		if err == nil && ctx.Err() == nil {
			r.seeExpected()
			r.flush()
		}
		return cmp.Or(err, r.failed, context.Cause(ctx))
	})
	slices.SortStableFunc(pl.Cut.By, func(a, b CutBy) int { return cmp.Compare(b.Flows, a.Flows) })
	pl.Cut.Problem = r.forgotten
	return err
}
