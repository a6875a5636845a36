//go:build linux

package nftables_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

func text(t *testing.T, rs *ruleset.Ruleset) string {
	t.Helper()
	var b strings.Builder
	if err := nftables.Text(&b, rs); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTimeoutsWithoutWords has nft(8) load what there is but the timeouts of
// protocols that it does not know, and list a table that has some.
func TestTimeoutsWithoutWords(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lab.Require(t, lab.Binary("nft"))
	rs := &ruleset.Ruleset{Chains: []*ruleset.Chain{{Name: "attributes"}}}
	for name, protocol := range map[string]uint8{"ping": 1, "ping6": 58, "ping2": 1} {
		rs.Timeouts = append(rs.Timeouts, &ruleset.Timeout{
			Name: name, Protocol: protocol, Family: ruleset.Inet, Policy: []ruleset.TimeoutState{{State: "timeout", Seconds: 7}},
		})
		rs.Chains[0].Rules = append(rs.Chains[0].Rules, &ruleset.Rule{
			ID: name, Origin: ruleset.Origin{Entry: name}, Do: []ruleset.Statement{{Kind: ruleset.SetTimeout, Object: name}},
		})
	}
	h.load(t, text(t, rs))
	if have := h.have(t); len(have.Objects) != 0 || len(have.Chains) != 1 || len(have.Chains[0].Rules) != 3 {
		t.Errorf("loaded: %+v", have)
	}
	h.reach(t, h.want(t, rs))
	if listed := h.nft(t, "list", "table", "inet", "ipmasq"); strings.Count(listed, "ct timeout set") != 3 {
		t.Errorf("listed as\n%s", listed)
	}
	rs.Timeouts[0].Policy[0].State = "established"
	_, err := h.Want(rs)
	if err == nil || !strings.Contains(err.Error(), `no state "established"`) {
		t.Errorf("a state of another protocol: %v", err)
	}
}

// TestFlowtable has the kernel, where it can, hold what nft(8) makes of a
// flowtable's text, and a kernel that cannot say what it lacks.
func TestFlowtable(t *testing.T) {
	t.Parallel()
	h, other := newHost(t), newHost(t)
	lab.Require(t, lab.Binary("nft"))
	rs := &ruleset.Ruleset{
		Flowtables: []*ruleset.Flowtable{{
			Name: "fast", Priority: 0, Devices: []string{"lo"},
			Origin: ruleset.Origin{Entry: "forward offload", Place: ruleset.Place{File: "policy.yaml", Line: 3, Column: 5}},
		}},
		Chains: []*ruleset.Chain{{
			Name: "forward", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward},
			Rules: []*ruleset.Rule{{
				ID: "offload", Origin: ruleset.Origin{Entry: "forward offload"},
				Matches: []ruleset.Match{{Fields: []ruleset.Field{ruleset.L4Proto}, Value: []byte{6}}},
				Do:      []ruleset.Statement{{Kind: ruleset.Offload, Object: "fast"}},
			}},
		}},
	}
	want := h.want(t, rs)
	err := h.Commit(context.Background(), plan.Diff(h.have(t), want), false)
	out, loading := other.run(text(t, rs), "-f", "-")
	if err != nil {
		if !errors.Is(err, backend.ErrNotSupported) || !strings.Contains(err.Error(), "policy.yaml:3:5: forward offload: ") ||
			!strings.Contains(err.Error(), "CONFIG_NF_FLOW_TABLE_INET") {
			t.Errorf("refused: %v", err)
		}
		if loading == nil || !strings.Contains(out, "Could not process rule: No such file or directory") || strings.Contains(out, "syntax") {
			t.Errorf("nft(8) refuses otherwise: %v: %s", loading, out)
		}
		return
	}
	if loading != nil {
		t.Fatal(loading)
	}
	for _, h := range []*host{h, other} {
		if c := plan.Diff(h.have(t), want); !c.Empty() {
			t.Errorf("differs: %s: %+v %+v", c.Summary(), c.Chains, c.Objects)
		}
	}
}

// TestLackingExpression has a kernel refuse a rule for what it does not know.
func TestLackingExpression(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.want(t, &ruleset.Ruleset{Chains: []*ruleset.Chain{{Name: "c", Rules: []*ruleset.Rule{{
		ID: "r", Origin: ruleset.Origin{Entry: "snat pool"}, Do: []ruleset.Statement{{Kind: ruleset.NoTrack}},
	}}}}})
	rule := &want.Chains[0].Rules[0]
	rule.Body = bytes.Replace(rule.Body, []byte("notrack"), []byte("nosuchx"), 1)
	err := h.Commit(context.Background(), plan.Diff(h.have(t), want), false)
	if !errors.Is(err, backend.ErrNotSupported) || !strings.Contains(err.Error(), "snat pool: ") || !strings.Contains(err.Error(), "nft_nosuchx") {
		t.Errorf("got %v", err)
	}
}
