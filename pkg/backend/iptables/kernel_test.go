//go:build linux

package iptables_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// variants are those that the suite is run on.
func variants() []string { return []string{"iptables-legacy", "iptables-nft"} }

// host is the iptables of a host of its own.
type host struct {
	*iptables.Backend
	host    *lab.Host
	variant string
}

func newHost(t testing.TB, variant string) *host {
	t.Helper()
	lab.Require(t, lab.Binary(variant), lab.Binary(variant+"-save"), lab.Binary(variant+"-restore"))
	h := lab.New(t).Host("gateway")
	b, err := iptables.New(h.Do, variant)
	if err != nil {
		t.Fatal(err)
	}
	return &host{b, h, variant}
}

var (
	_ backendtest.Partial  = (*host)(nil)
	_ backendtest.Sender   = (*host)(nil)
	_ backendtest.Neighbor = (*host)(nil)
)

// Leaves are the cases that are about what iptables does not have.
func (h *host) Leaves() map[string]string {
	const sets = "a set is a rule for each element, of the chain that asks for it"
	const objects = "rules name helpers themselves, and timeouts are other objects"
	return map[string]string{
		"elements": sets, "set attributes": sets, "dynamic sets": sets,
		"refused element": sets, "refused range": sets, "refused verdict": sets, "refused change": sets,
		"objects": objects, "refused object": objects, "flowtables": objects,
		"one chain": "chains that nothing leads to any more go with the rule that led there",
		"large":     "a rule for each element: 100,000 of them take too long",
	}
}

// Send has the host send itself a packet.
func (h *host) Send(t testing.TB) { h.host.SendItself(t) }

// Disturb adds a rule of somebody else's to a built-in chain, behind ours, and
// one to a chain of its own.
func (h *host) Disturb(t testing.TB) {
	t.Helper()
	h.host.Feed(t, "*filter\n:OTHER - [0:0]\n-A OTHER -s 10.0.0.1/32 -j ACCEPT\n-A FORWARD -s 10.0.0.2/32 -j ACCEPT\nCOMMIT\n", h.variant+"-restore", "--noflush", "--wait")
}

// Disturbed counts the rules in the built-in chain.
func (h *host) Disturbed(t testing.TB) int {
	t.Helper()
	saved := h.host.Run(t, h.variant+"-save")
	if strings.Count(saved, "-A OTHER -s 10.0.0.1/32 -j ACCEPT") != 1 {
		t.Errorf("the other chain is not as it was\n%s", saved)
	}
	return strings.Count(saved, "-A FORWARD -s 10.0.0.2/32 -j ACCEPT")
}

// TestContract runs the suite of all backends against the kernel.
func TestContract(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			backendtest.Run(t, func(t *testing.T) backend.Backend { return newHost(t, variant) })
		})
	}
}

// What is loaded is what iptables-save prints, byte by byte: nothing is read as
// another rule, and nothing is a difference that is none.
func TestLoads(t *testing.T) {
	t.Parallel()
	for _, variant := range variants() {
		for name, rs := range rulesets(t) {
			t.Run(variant+" "+name, func(t *testing.T) {
				t.Parallel()
				h, ctx := newHost(t, variant), context.Background()
				want, _ := iptables.Taken(rs)
				have, err := h.Have(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Commit(ctx, plan.Diff(have, want), false); err != nil {
					t.Fatal(err)
				}
				if have, err = h.Have(ctx); err != nil {
					t.Fatal(err)
				}
				compare(t, have, want)
				if err := h.Commit(ctx, plan.Diff(have, &plan.Snapshot{}), false); err != nil {
					t.Fatal(err)
				}
				if have, err = h.Have(ctx); err != nil || !have.Empty() {
					t.Errorf("something is left after all was deleted: %v %+v", err, have)
				}
			})
		}
	}
}

// compare shows where two snapshots differ.
func compare(t *testing.T, have, want *plan.Snapshot) {
	t.Helper()
	for _, c := range plan.Diff(have, want).Chains {
		if c.From < 0 || c.To < 0 {
			t.Errorf("chain %+v is on one side alone", c)
			continue
		}
		from, to := have.Chains[c.From], want.Chains[c.To]
		for i := range max(len(from.Rules), len(to.Rules)) {
			var a, b string
			if i < len(from.Rules) {
				a = string(from.Rules[i].Body)
			}
			if i < len(to.Rules) {
				b = string(to.Rules[i].Body)
			}
			if a != b {
				t.Errorf("%s\nhave %s\nwant %s", from.Name, a, b)
			}
		}
	}
	if c := plan.Diff(have, want); !c.Empty() {
		t.Errorf("there is a difference: %s", c.Summary())
	}
}
