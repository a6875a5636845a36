package packet

import (
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Packets and bytes are those that went, of flows that began with accounting;
// of others nothing is made up. So it is with ages, where the kernel keeps
// times. What is left of a flow's life is what the policy gave it.
func TestConnectionsCounts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	listens(topo.Server, 80)
	g := untouched(t, topo)
	const policy = twoZones + "masquerade: {from: lan, to: wan, timeouts: {tcp: {established: 600s}, udp: {unreplied: 55s, replied: 77s}}}\n"
	each(t, func(t *testing.T, ip family) {
		topo.GW.Sysctl("net.netfilter.nf_conntrack_timestamp", "0")
		g.apply(t, policy)
		var before, after ledger
		before.both(t, g.LAN1, at(ip.outside, 80), "masquerade lan-wan", "lan", "wan")
		before.check(t, g.connections(t))

		began := time.Now()
		topo.GW.Sysctl("net.netfilter.nf_conntrack_timestamp", "1")
		g.apply(t, policy+"gateway: {conntrack: {accounting: true}}\n")
		after.both(t, g.LAN2, at(ip.outside, 80), "masquerade lan-wan", "lan", "wan")
		if t.Failed() {
			return
		}
		u := after.flows[1].udp
		for range 4 {
			if _, err := u.Exchange(lab.Patience, strings.Repeat("x", 95)); err != nil {
				t.Fatal(err)
			}
		}
		list := g.connections(t)
		ended := time.Now()
		before.check(t, list)
		after.check(t, list)
		before.counts(t, list, false)
		after.counts(t, list, true)
		for _, a := range before.flows {
			if c, _ := a.find(list); c.Age != nil || c.Start != "" {
				t.Errorf("%s: begun at %q, which nobody noted", a.what, c.Start)
			}
		}
		for _, a := range after.flows {
			c, _ := a.find(list)
			start, err := time.Parse(time.RFC3339Nano, c.Start)
			if err != nil || start.Before(began.Add(-time.Second)) || start.After(ended.Add(time.Second)) {
				t.Errorf("%s: begun at %q, %v; it was after %s and before %s", a.what, c.Start, err, began, ended)
			}
			if c.Age == nil || *c.Age < 0 || *c.Age > int(time.Since(start).Seconds())+1 {
				t.Errorf("%s: of age %v, begun at %s", a.what, c.Age, c.Start)
			}
			if low, high := 500, 600; a.protocol == "tcp" && (c.Timeout < low || c.Timeout > high) {
				t.Errorf("%s: %d s are left of %d", a.what, c.Timeout, high)
			}
			if low, high := 40, 77; a.protocol == "udp" && (c.Timeout < low || c.Timeout > high) {
				t.Errorf("%s: %d s are left of %d", a.what, c.Timeout, high)
			}
		}
		// "hello", and 95 bytes four times; what comes back is longer.
		c, _ := after.flows[1].find(list)
		if want := (counted{5, uint64(5*(ip.headers+8) + 5 + 4*95)}); *c.Sent != want || c.Received.Packets != 5 || c.Received.Bytes <= want.Bytes {
			t.Errorf("sent %+v and received %+v, want to have sent %+v", *c.Sent, *c.Received, want)
		}

		// The largest first; and a table that says what is not known.
		for _, c := range []struct {
			order string
			first bool
		}{{"bytes", true}, {"packets", true}, {"age", true}} {
			sorted := g.connections(t, "--sort", c.order, "--limit", "2", "--family", strings.ToLower(ip.name))
			for _, x := range sorted {
				if x.Sent == nil {
					t.Errorf("by %s %s is among the first, of which nothing is known", c.order, x)
				}
			}
			if len(sorted) != 2 {
				t.Errorf("by %s: %d flows", c.order, len(sorted))
			}
		}
		if out := g.ipmasq(t, 0, "connections list", "-o", "wide", "--source", ip.lan1); !strings.Contains(out, "n/a") {
			t.Errorf("nothing is n/a in\n%s", out)
		}
		if out := g.ipmasq(t, 0, "connections list", "-o", "wide", "--source", ip.lan2); strings.Contains(out, "n/a") {
			t.Errorf("something is n/a in\n%s", out)
		}
	})
	topo.GW.Sysctl("net.netfilter.nf_conntrack_timestamp", "0")
	g.delete(t)
}
