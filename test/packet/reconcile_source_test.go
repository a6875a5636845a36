package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// pooled is a policy with a pool for the lan.
func (f family) pooled(addresses string) string {
	return calm + "snat: [{name: pool, from: lan, to: wan, addresses: " + addresses + "}]\n"
}

// An address leaves the pool: the next packet of its flows has another one.
func TestReconcilePool(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "")
		pool(t, r.Topology, 40, 41)
		listens(r.Server, 80)
		r.apply(t, ip.pooled("\""+ip.public(40)+"\""))
		r.hold(t)
		u := socket(t, r.LAN1, at(ip.outside, 80))
		leavesAs(t, u, ip.public(40))
		c := opens(t, r.LAN1, at(ip.outside, 80), ip.public(40))
		leaks := r.leaks(t)
		r.changes(t, ip.pooled("\""+ip.public(41)+"\""), map[string]int{"snat pool: would leave as " + ip.public(41): 2})
		leavesAs(t, u, ip.public(41))
		if c.Echo(lab.Silence, "there?") == nil {
			t.Error("the connection goes on")
		}
		// One more address contradicts nothing.
		r.changes(t, ip.pooled("[\""+ip.public(41)+"\", \""+ip.public(40)+"\"]"), map[string]int{})
		leavesAs(t, u, ip.public(41))
		leaks.none(t)
	})
}

// A masquerade that goes takes its flows with it; so does one for which some
// destinations are none of its business any more.
func TestReconcileMasquerade(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		entry := "  - {name: lan, from: lan, to: wan}\n"
		r := reconciling(t, ip, calm+entry, lab.InsideRoutes())
		listens(r.Server, 80)
		listens(r.Neighbor, 80)
		listens(r.ISP, 80)
		near, far := socket(t, r.LAN1, at(ip.neighbor, 80)), socket(t, r.LAN1, at(ip.outside, 80))
		leavesAs(t, near, ip.uplink)
		leavesAs(t, far, ip.uplink)
		c := opens(t, r.LAN1, at(ip.outside, 80), ip.uplink)
		// What is excepted may pass as it is, where a rule says so.
		direct := strings.Replace(entry, "}", ", except_destinations: \""+ip.neighbor+"\"}", 1)
		rule := "forward: {rules: [{name: near, from: lan, to: wan, destinations: \"" + ip.neighbor + "\", action: accept}]}\n"
		r.changes(t, calm+direct+rule, map[string]int{"masquerade lan: would not be translated": 1})
		leavesAs(t, near, ip.lan1)
		leavesAs(t, far, ip.uplink)
		carries(t, c)

		leaks := r.leaks(t)
		defer leaks.stop()
		r.changes(t, calm, map[string]int{"forward default: would be dropped": 1, "masquerade lan: would be dropped by forward default": 2})
		together(
			func() { unanswered(t, near) },
			func() { unanswered(t, far) },
			func() {
				if c.Echo(lab.Silence, "there?") == nil {
					t.Error("the connection goes on")
				}
			},
		)
		leaks.none(t)
	})
}

// What was open before the first apply, of a host that forwarded, was not
// translated: it is, from its next packet on.
func TestReconcileFirstApply(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "", lab.InsideRoutes())
		listens(r.Server, 80)
		r.Forwarding(true)
		// Somebody has conntrack look on.
		r.GW.Feed(t, "table inet foreign { chain forward { type filter hook forward priority filter; ct state new counter; }; }", "nft", "-f", "-")
		u := socket(t, r.LAN1, at(ip.outside, 80))
		leavesAs(t, u, ip.lan1)
		policy := calm + "  - {name: lan, from: lan, to: wan}\n"
		for _, command := range []string{"plan", "apply"} {
			code := map[string]int{"plan": 2}[command]
			if c := r.reports(t, code, command, policy); c.said()["masquerade lan: is not translated"] != 1 || c.Total != 1 {
				t.Errorf("%s: %v", command, c.said())
			}
		}
		leaks := r.leaks(t)
		leavesAs(t, u, ip.uplink)
		leaks.none(t)
	})
}

// Another outside address for a host, in both directions, and then none.
func TestReconcileOneToOne(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "")
		pool(t, r.Topology, 10, 11)
		listens(r.Server, 80)
		listens(r.LAN1, 80)
		policy := func(outside string) string {
			return calm + "  - {name: lan, from: lan, to: wan}\n" +
				ip.mapped("  - {name: host, zone: wan, outside: \"OUT\", inside: \"$lan1\", expose: all}\n", "OUT", outside)
		}
		r.apply(t, policy(ip.public(10)))
		r.hold(t)
		out, in := socket(t, r.LAN1, at(ip.outside, 80)), socket(t, r.Neighbor, at(ip.public(10), 80))
		leavesAs(t, out, ip.public(10))
		answered(t, in, at(ip.lan1, 80))
		r.changes(t, policy(ip.public(11)), map[string]int{
			"one_to_one host: would leave as " + ip.public(11): 1, "one_to_one host: would be dropped by forward default": 1,
		})
		leavesAs(t, out, ip.public(11))
		unanswered(t, in)
		r.changes(t, calm+"  - {name: lan, from: lan, to: wan}\n", map[string]int{"one_to_one host: would be for masquerade lan": 1})
		leavesAs(t, out, ip.uplink)
	})
}

// Without any policy what was translated is cut, and leaves as it is.
func TestReconcileEmptyPolicy(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "", lab.InsideRoutes())
		listens(r.Server, 80)
		r.apply(t, calm+"  - {name: lan, from: lan, to: wan}\n")
		u := socket(t, r.LAN1, at(ip.outside, 80))
		leavesAs(t, u, ip.uplink)
		if c := r.reports(t, 0, "apply", ""); c.said()["masquerade lan: would not be translated"] != 1 || c.Total != 1 {
			t.Errorf("cut %v", c.said())
		}
		leavesAs(t, u, ip.lan1)
	})
}
