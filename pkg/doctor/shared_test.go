package doctor

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/foreign"
)

// onIPTables has our rules stand in a table of iptables, whose number is 5.
func onIPTables(h *Host, kind foreign.Kind, table string, base *foreign.Chain) *Host {
	own := &foreign.Chain{Name: "IPMASQ-x", Rules: []foreign.Rule{{Verdict: foreign.Accept}}}
	h.Rules.Foreign = &foreign.Rules{}
	number := uint64(5)
	if kind == foreign.XTLegacy {
		number = 0
	}
	h.Rules.Foreign.Add(&foreign.Table{Kind: kind, Family: "ip", Name: table, Number: number, Chains: []*foreign.Chain{base, own}})
	return h
}

func jump() foreign.Rule { return foreign.Rule{Verdict: foreign.Jump, To: "IPMASQ-x"} }

// What stands before our jump decides first, and is named by where it leads; what
// stands behind is no finding.
func TestForeignFirst(t *testing.T) {
	t.Parallel()
	drop := func(tests ...foreign.Test) foreign.Rule { return foreign.Rule{Tests: tests, Verdict: foreign.Drop} }
	for _, c := range []struct {
		name     string
		rules    []foreign.Rule
		severity Severity
		title    string // "": nothing is wrong
		mend     string
	}{
		{"behind", []foreign.Rule{jump(), drop(), accept()}, 0, "", ""},
		{"a drop", []foreign.Rule{drop(in("eth1")), jump()}, Broken, "rules of others in the chain ip filter FORWARD (iptables-nft) drop what the policy lets pass", "iptables-nft -t filter -A FORWARD"},
		{"a drop of the answers", []foreign.Rule{drop(answers), jump()}, Broken, "drop what the policy lets pass", "append"},
		{"a drop of what is not the policy's", []foreign.Rule{drop(in("eth9")), jump()}, Risk, "the policy is not asked about", "-t raw -A PREROUTING"},
		{"an accept", []foreign.Rule{accept(in("eth1")), jump()}, Risk, "the policy is not asked about", "append"},
		{"Docker's", []foreign.Rule{{Tests: []foreign.Test{out("docker0")}, Verdict: foreign.Jump, To: "DOCKER"}, accept(in("docker0")), jump()}, Risk, "Docker's rules come before", "docker: accept"},
		{"a counter", []foreign.Rule{{Counted: true}, jump()}, Note, "rules of others come before", "append"},
	} {
		h := onIPTables(hostOf(t, written), foreign.XTNFT, "filter", forward(true, c.rules...))
		h.Rules.Foreign.Tables[0].Chains = append(h.Rules.Foreign.Tables[0].Chains, &foreign.Chain{Name: "DOCKER", Rules: []foreign.Rule{accept()}})
		if c.title == "" {
			if ids := found(Examine(h)); len(ids) > 0 {
				t.Errorf("%s: %v", c.name, ids)
			}
			continue
		}
		f := first(t, h, "foreign-first", c.severity)
		if !strings.Contains(f.Title, c.title) || !strings.Contains(strings.Join(f.Mend, "\n"), c.mend) {
			t.Errorf("%s: %s\n%q", c.name, f.Title, f.Mend)
		}
		if ids := found(Examine(h)); slices.Contains(ids, "foreign-drop") {
			t.Errorf("%s is told twice: %v", c.name, ids)
		}
	}
}

// Which of two chains of nat with one priority is first depends on who came later;
// of iptables-legacy nobody knows when it came.
func TestForeignNATBesideIPTables(t *testing.T) {
	t.Parallel()
	dnat := func(packets uint64) *foreign.Chain {
		return &foreign.Chain{Name: "pre", Hook: foreign.Prerouting, Type: "nat", Priority: -100, Rules: []foreign.Rule{{
			Tests:   []foreign.Test{{Field: foreign.DestinationPort, Ranges: [][2][]byte{{{0, 80}, {0, 80}}}}},
			Verdict: foreign.DNAT, To: "172.17.0.2:80", Counted: true, Packets: packets}}}
	}
	for _, c := range []struct {
		name     string
		ours     foreign.Kind
		theirs   uint64 // the number of the table
		packets  uint64
		severity Severity
		title    string
	}{
		{"later than ours", foreign.XTNFT, 6, 0, Broken, "before it"},
		{"earlier than ours", foreign.XTNFT, 4, 9, Risk, "are for the same packets"},
		{"beside legacy, and idle", foreign.XTLegacy, 6, 0, Risk, "cannot be told"},
		{"beside legacy, and met", foreign.XTLegacy, 6, 9, Broken, "before it"},
	} {
		base := &foreign.Chain{Name: "PREROUTING", Hook: foreign.Prerouting, Type: "nat", Priority: -100, Rules: []foreign.Rule{jump()}}
		h := onIPTables(hostOf(t, written), c.ours, "nat", base)
		h.Rules.Foreign.Add(&foreign.Table{Kind: foreign.NFT, Family: "ip", Name: "x", Number: c.theirs, Chains: []*foreign.Chain{dnat(c.packets)}})
		if f := first(t, h, "foreign-nat", c.severity); !strings.Contains(f.Title, c.title) {
			t.Errorf("%s: %s", c.name, f.Title)
		}
	}
}

// The rules of both iptables go where ours are, and never away from there.
func TestMixedWithOurs(t *testing.T) {
	t.Parallel()
	for kind, want := range map[foreign.Kind]string{
		foreign.XTLegacy: "sh -c 'iptables-nft-save | iptables-legacy-restore --noflush'",
		foreign.XTNFT:    "sh -c 'iptables-legacy-save | iptables-nft-restore --noflush'",
	} {
		h := onIPTables(hostOf(t, written), kind, "filter", forward(false, jump(), accept(in("lo"))))
		other := foreign.XTLegacy
		if kind == other {
			other = foreign.XTNFT
		}
		others(h, other, "ip", "nat", forward(false, accept(in("lo"))))
		f := first(t, h, "iptables-mixed", Risk)
		if !slices.Contains(f.Mend, want) || strings.Contains(strings.Join(f.Mend, "\n"), "iptables"+strings.TrimPrefix(string(kind), "iptables")+" -t $t -F") {
			t.Errorf("ours are in %s: %q", kind, f.Mend)
		}
	}
}
