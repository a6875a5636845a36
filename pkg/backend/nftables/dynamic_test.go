//go:build linux

package nftables_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

// limited lets a host open so many flows at once, which the set "open" of a
// size remembers, and counts what is over in "over".
func limited(flows, size uint32) *ruleset.Ruleset {
	open := ruleset.NewSet("open", []ruleset.Type{ruleset.CtDir}, nil)
	open.Dynamic, open.Size = true, size
	fresh := ruleset.Match{Fields: []ruleset.Field{ruleset.CtStateField}, Op: ruleset.AnyOf, Value: []byte{0, 0, 0, ruleset.CtNew}}
	return &ruleset.Ruleset{
		Sets:     []*ruleset.Set{open},
		Counters: []*ruleset.Counter{{Name: "over"}},
		Chains: []*ruleset.Chain{{
			Name: "output", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Output},
			Rules: []*ruleset.Rule{{
				ID: "limit", Origin: ruleset.Origin{Entry: "limit"}, Matches: []ruleset.Match{fresh}, Counter: "over",
				Do:     []ruleset.Statement{{Kind: ruleset.CountOver, Count: flows, Set: "open", Fields: []ruleset.Field{ruleset.CtDirection}}},
				Action: ruleset.Action{Kind: ruleset.Drop},
			}},
		}},
	}
}

// flow opens a flow of UDP, whose first packet may be dropped.
func (h *host) flow(t *testing.T, server net.Addr) {
	t.Helper()
	err := h.host.Do(func() error {
		c, err := net.Dial("udp4", server.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		_, _ = c.Write([]byte("x")) // not permitted where it is dropped
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) counted(t *testing.T, name string) uint64 {
	t.Helper()
	counters := h.have(t).Counters
	i := slices.IndexFunc(counters, func(c plan.Counter) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no counter %s", name)
	}
	return counters[i].Packets
}

// TestOpenFlows has the kernel remember the open flows while the chain that
// counts them is filled anew, and forget them where their set is made anew.
func TestOpenFlows(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lab.Require(t, lab.Binary("nft"))
	var server net.PacketConn
	if err := h.host.Do(func() (err error) { server, err = net.ListenPacket("udp4", "127.0.0.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	h.reach(t, h.want(t, limited(3, 10)))
	over := func(want uint64, when string) {
		t.Helper()
		if got := h.counted(t, "over"); got != want {
			t.Errorf("%s: %d flows were over the limit, want %d", when, got, want)
		}
	}
	for range 3 {
		h.flow(t, server.LocalAddr())
	}
	over(0, "three flows")
	h.flow(t, server.LocalAddr())
	over(1, "a fourth")
	listed := h.nft(t, "list", "table", "inet", "ipmasq")
	if !strings.Contains(listed, "elements = { original ct count over 3 }") {
		t.Errorf("the set is not filled:\n%s", listed)
	}

	// What the kernel filled is no drift.
	have := h.have(t)
	if c := plan.Diff(have, h.want(t, limited(3, 10))); !c.Empty() {
		t.Errorf("elements of the kernel's count as drift: %+v", c.Sets)
	}
	rs := limited(3, 10)
	rs.Chains[0].Rules = append(rs.Chains[0].Rules, &ruleset.Rule{ID: "more", Origin: ruleset.Origin{Entry: "more"}, Action: ruleset.Action{Kind: ruleset.Accept}})
	changes := h.reach(t, h.want(t, rs))
	if len(changes.Chains) != 1 || len(changes.Sets) != 0 {
		t.Fatalf("%d chains and %d sets change, want one chain", len(changes.Chains), len(changes.Sets))
	}
	h.flow(t, server.LocalAddr())
	over(2, "a fifth, after the chain was filled anew")
	h.reach(t, have)
	h.flow(t, server.LocalAddr())
	over(3, "a sixth, after the chain was gone back to")

	// What nft lists of it can be loaded.
	other := newHost(t)
	other.load(t, h.nft(t, "list", "table", "inet", "ipmasq"))
	if c := plan.Diff(other.have(t), h.want(t, limited(3, 10))); !c.Empty() {
		t.Errorf("what nft lists makes another table: %s", c.Summary())
	}

	h.reach(t, h.want(t, limited(3, 11)))
	h.flow(t, server.LocalAddr())
	over(3, "a set of another size")
}

// TestTimeoutsOfTheHost keeps the states that nobody named as the host has
// them, and takes them for no drift.
func TestTimeoutsOfTheHost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lab.Require(t, lab.Binary("nft"))
	h.host.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", "777")
	rs := &ruleset.Ruleset{Timeouts: []*ruleset.Timeout{{
		Name: "web", Protocol: 6, Family: ruleset.Inet, Policy: []ruleset.TimeoutState{{State: "close", Seconds: 10}},
	}}}
	h.reach(t, h.want(t, rs))
	if got := h.nft(t, "list", "table", "inet", "ipmasq"); !strings.Contains(got, "policy = { established : 777 }") {
		t.Errorf("the host's value is not taken:\n%s", got)
	}
	h.load(t, "delete ct timeout inet ipmasq web\nadd ct timeout inet ipmasq web { protocol tcp; l3proto inet; policy = { close : 11 }; }\n")
	if plan.Diff(h.have(t), h.want(t, rs)).Empty() {
		t.Error("another value is not seen")
	}
	h.reach(t, h.want(t, rs))
}
