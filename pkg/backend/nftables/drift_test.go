//go:build linux

package nftables_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

func (h *host) want(t testing.TB, rs *ruleset.Ruleset) *plan.Snapshot {
	t.Helper()
	w, err := h.Want(rs)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (h *host) have(t testing.TB) *plan.Snapshot {
	t.Helper()
	s, err := h.Have(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reach commits what leads from what is there to a snapshot, and checks that
// it does.
func (h *host) reach(t testing.TB, to *plan.Snapshot) *plan.Changes {
	t.Helper()
	changes := plan.Diff(h.have(t), to)
	if err := h.Commit(context.Background(), changes, false); err != nil {
		t.Fatal(err)
	}
	if left := plan.Diff(h.have(t), to); !left.Empty() {
		t.Fatalf("differs after the commit: %s, in %d chains, %d sets, %d counters",
			left.Summary(), len(left.Chains), len(left.Sets), len(left.Counters))
	}
	return changes
}

// TestDrift has somebody else change our table in ways of their own. Each is
// seen, made good, and can be gone back to.
func TestDrift(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		oneWay       bool // what was there cannot be told, so not gone back to
	}{
		{name: "rule with a set of its own", script: "insert rule inet ipmasq forward tcp dport { 22, 23, 80-90 } drop"},
		{name: "rule with a map of its own", script: "add rule inet ipmasq from_lan tcp dport vmap { 22 : accept, 23 : jump matches }"},
		{name: "rule with a counter", script: "insert rule inet ipmasq forward counter"},
		{name: "rule gone", script: "flush chain inet ipmasq leak_guard"},
		{name: "policy", script: "add chain inet ipmasq forward { policy drop; }"},
		{name: "chain", script: "add chain inet ipmasq x { type filter hook input priority 7; }\nadd rule inet ipmasq x tcp dport 1 accept"},
		{name: "element", script: "add element inet ipmasq protocols { 99 }"},
		{name: "element gone", script: "delete element inet ipmasq tcp4 { 80 }"},
		{name: "value", script: "delete element inet ipmasq tcp4 { 80 }\nadd element inet ipmasq tcp4 { 80 : 10.0.0.9 . 80 }"},
		{name: "comment", script: "delete element inet ipmasq tcp4 { 80 }\nadd element inet ipmasq tcp4 { 80 comment \"x\" : 10.0.0.1 . 8080 }"},
		{name: "range", script: "add element inet ipmasq keep4 { 110-119 : 10.0.0.1 }\nadd element inet ipmasq keep4 { 0-5 : 10.0.0.1 }"},
		{name: "range gone", script: "delete element inet ipmasq keep4 { 90-99 }"},
		{name: "verdict", script: "add chain inet ipmasq x\nadd element inet ipmasq zones { eth9 : jump x }"},
		{name: "any element", script: "add element inet ipmasq protocols { * }", oneWay: true},
		{name: "any element of a map", script: "add element inet ipmasq zones { * : drop }", oneWay: true},
		{name: "set that times out", script: "add set inet ipmasq x { type ipv4_addr; flags timeout; timeout 1h; }\nadd element inet ipmasq x { 10.0.0.1 timeout 5m }", oneWay: true},
		{name: "set that a rule fills", script: "add set inet ipmasq x { type ipv4_addr; flags dynamic; size 10; }\nadd rule inet ipmasq forward add @x { ip saddr }"},
		{name: "rule that writes an option", script: "add rule inet ipmasq forward tcp flags syn tcp option maxseg size set rt mtu"},
		{name: "counter", script: "add counter inet ipmasq x"},
		{name: "helper", script: "add ct helper inet ipmasq x { type \"tftp\" protocol udp; l3proto ip; comment \"x\"; }"},
		{name: "helper without a comment", script: "add ct helper inet ipmasq x { type \"ftp\" protocol tcp; }\nadd rule inet ipmasq from_lan ct helper set x"},
		{name: "timeout", script: "add ct timeout inet ipmasq x { protocol udp; l3proto ip; policy = { replied : 7 }; }"},
		{name: "another timeout", script: "flush chain inet ipmasq attributes\ndelete ct timeout inet ipmasq web\n" +
			"add ct timeout inet ipmasq web { protocol tcp; l3proto inet; policy = { close : 7 }; comment \"timeout web\"; }"},
		{name: "set that rules fill", script: "flush chain inet ipmasq attributes\ndelete set inet ipmasq clients_at_once\n" +
			"add set inet ipmasq clients_at_once { type ipv4_addr; size 10; }\nadd element inet ipmasq clients_at_once { 10.0.0.1 }"},
		{name: "sleep", script: "add table inet ipmasq { flags dormant; }", oneWay: true},
		{name: "all gone", script: "flush ruleset"},
		{name: "all ours gone", script: "delete table inet ipmasq"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			lab.Require(t, lab.Binary("nft"))
			want := h.want(t, backendtest.Everything())
			h.reach(t, want)
			listed := h.nft(t, "-s", "list", "table", "inet", "ipmasq")
			h.load(t, c.script+"\n")
			drifted := h.have(t)
			if plan.Diff(drifted, want).Empty() {
				t.Fatal("not seen")
			}
			h.reach(t, want)
			if got := h.nft(t, "-s", "list", "table", "inet", "ipmasq"); sorted(got) != sorted(listed) {
				t.Errorf("made good it is\n%s\nand was\n%s", got, listed)
			}
			if c.oneWay {
				// It must not fail, though.
				if err := h.Commit(context.Background(), plan.Diff(h.have(t), drifted), false); err != nil {
					t.Errorf("back: %v", err)
				}
				h.reach(t, want)
				return
			}
			h.reach(t, drifted)
			h.reach(t, want)
		})
	}
}

// sorted puts lines in order: a hash set is listed in none.
func sorted(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ',' })
	for i := range lines {
		lines[i] = strings.TrimSuffix(strings.TrimSpace(strings.Replace(lines[i], "elements = {", "", 1)), " }")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestForeignObjects leaves what it does not know alone, and takes it along
// when the table goes.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lab.Require(t, lab.Binary("nft"))
	want := h.want(t, backendtest.Everything())
	h.reach(t, want)
	h.load(t, "add quota inet ipmasq q { 10 mbytes }\nadd limit inet ipmasq l { rate 1/second }\n")
	if left := plan.Diff(h.have(t), want); !left.Empty() {
		t.Errorf("objects that no rule of ours uses count: %s", left.Summary())
	}
	h.reach(t, &plan.Snapshot{})
	if out := h.nft(t, "list", "tables"); out != "" {
		t.Errorf("left: %s", out)
	}
}
