package foreign

import "testing"

// Rules of others have the first word before our jump, and none behind it about
// what we accept.
func TestWalkOfSharedChains(t *testing.T) {
	drop := Rule{Verdict: Drop}
	jump := Rule{Verdict: Jump, To: "IPMASQ-forward"}
	lead := Rule{Verdict: DNAT, To: "192.0.2.1"}
	own := func(v Verdict) *Chain {
		return &Chain{Name: "IPMASQ-forward", Rules: []Rule{{Verdict: Drop}, {Verdict: v}}}
	}
	for _, c := range []struct {
		name          string
		rules         []Rule
		ours          Verdict
		drops         bool // the policy
		stopped, dnat bool
	}{
		{"before", []Rule{drop, jump}, Accept, false, true, false},
		{"behind", []Rule{jump, drop}, Accept, true, false, false},
		{"behind what does not accept", []Rule{jump, drop}, Return, false, true, false},
		{"the policy, behind what does not accept", []Rule{jump}, Return, true, true, false},
		{"a translation before", []Rule{lead, jump}, DNAT, false, false, true},
		{"a translation behind", []Rule{jump, lead}, DNAT, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := &Chain{Name: "FORWARD", Hook: Forward, Drops: c.drops, Rules: c.rules}
			var r Rules
			r.Add(&Table{Kind: XTNFT, Family: "ip", Name: "filter", Chains: []*Chain{base, own(c.ours)}})
			if n := len(r.Tables[0].Chains); n != 1 {
				t.Errorf("%d chains are said to be others'", n)
			}
			if n := len(base.Rules); n != len(c.rules) {
				t.Errorf("%d rules, so that their numbers are wrong", n)
			}
			o := base.Walk(&Packet{})
			if (o.Stopped() != nil) != c.stopped || (o.DNAT != nil) != c.dnat {
				t.Errorf("stopped %+v, dnat %+v", o.Stopped(), o.DNAT)
			}
		})
	}
}

// What asks our rules first may be a chain of others that begins with what leads to
// them.
func TestBefore(t *testing.T) {
	drop := Rule{Verdict: Drop}
	jump := Rule{Verdict: Jump, To: "IPMASQ-forward"}
	user := Rule{Verdict: Jump, To: "DOCKER-USER"}
	for _, c := range []struct {
		name           string
		rules, user    []Rule
		before, behind int
		displaced      bool
	}{
		{"first", []Rule{jump, drop}, nil, 0, 2, false},
		{"two of ours", []Rule{jump, jump, drop}, nil, 0, 3, false},
		{"second", []Rule{drop, jump}, nil, 1, 3, true},
		{"second, behind what asks ours", []Rule{user, drop, jump}, []Rule{jump, drop}, 0, 4, true},
		{"second, behind what asks ours later", []Rule{user, jump}, []Rule{drop, jump}, 1, 3, true},
		{"not there", []Rule{drop}, nil, 0, 1, false},
	} {
		base := &Chain{Name: "FORWARD", Hook: Forward, Drops: true, Rules: c.rules}
		var r Rules
		r.Add(&Table{Kind: XTNFT, Family: "ip", Name: "filter", Chains: []*Chain{base, {Name: "DOCKER-USER", Rules: c.user}, {Name: "IPMASQ-forward"}}})
		n := 0
		if before := base.Before(); before != nil {
			n = len(before.Rules)
			if before.Drops {
				t.Errorf("%s: its policy stands behind ours", c.name)
			}
		}
		if n != c.before || base.Behind() != c.behind || base.Displaced() != c.displaced {
			t.Errorf("%s: %d rules before ours, %d is behind, displaced %v", c.name, n, base.Behind(), base.Displaced())
		}
	}
}
