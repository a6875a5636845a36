package packet

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// kill kills the connections that filter flags allow, and says how many it told
// to have.
func (g *gateway) kill(t *testing.T, flags ...string) (n int) {
	t.Helper()
	out := g.ipmasq(t, 0, "connections kill", flags...)
	last := strings.TrimSuffix(out[strings.LastIndex(strings.TrimSuffix(out, "\n"), "\n")+1:], "\n")
	if _, err := fmt.Sscanf(last, "%d connection", &n); err != nil {
		t.Fatalf("connections kill says %q", out)
	}
	if dry := slices.Contains(flags, "--dry-run"); dry != strings.Contains(last, "would be killed") {
		t.Errorf("connections kill %v says %q", flags, last)
	}
	return n
}

// killed is what is in force where connections are killed: some of each kind,
// in both families.
func killed(t *testing.T) (*gateway, *ledger) {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutGuest())
	for _, h := range []*lab.Host{topo.Server, topo.LAN1, topo.LAN2, topo.DMZ, topo.GW} {
		listens(h, 80)
	}
	// However slow the machine is, nothing goes by itself.
	topo.GW.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "600")
	topo.GW.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "600")
	v4, v6 := families()[0], families()[1]
	g := applied(t, topo, zones+"masquerade: {from: [lan, dmz], to: wan}\nforward: {rules: [{name: inner, from: lan, to: dmz, action: accept}]}\n"+
		v4.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n  - {name: other, from: wan, protocol: [tcp, udp], ports: 8081, to: \"$lan2:80\"}\n")+
		strings.TrimPrefix(v6.forwards("  - {name: web6, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n  - {name: other6, from: wan, protocol: [tcp, udp], ports: 8081, to: \"$lan2:80\"}\n"), "port_forward:\n"))
	var l ledger
	for _, ip := range families() {
		suffix := map[bool]string{true: "6"}[ip.v6()]
		l.both(t, g.LAN1, at(ip.outside, 80), "masquerade lan-dmz-wan", "lan", "wan")
		l.both(t, g.LAN2, at(ip.outside, 80), "masquerade lan-dmz-wan", "lan", "wan")
		l.both(t, g.DMZ, at(ip.outside, 80), "masquerade lan-dmz-wan", "dmz", "wan")
		l.both(t, g.LAN1, at(ip.dmz, 80), "forward inner", "lan", "dmz")
		l.both(t, g.LAN2, at(ip.dmz, 80), "forward inner", "lan", "dmz")
		l.both(t, g.Server, at(ip.uplink, 8080), "port_forward web"+suffix, "wan", "lan")
		l.both(t, g.Server, at(ip.uplink, 8081), "port_forward other"+suffix, "wan", "lan")
		l.both(t, g.DMZ, at(ip.uplink, 8080), "port_forward web"+suffix, "dmz", "lan")
		l.both(t, g.LAN2, at(ip.gwLAN, 80), "", "lan", "gateway")
	}
	if t.Failed() {
		t.FailNow()
	}
	return g, &l
}

// Each filter lists and kills the flows that it means, to the last one, and no
// others; a dry run says which, and kills none.
func TestConnectionsKillFilters(t *testing.T) {
	t.Parallel()
	g, l := killed(t)
	// A server of the gateway that sends again would begin a flow of its own.
	g.GW.Sysctl(loose, "0")
	v4, v6 := families()[0], families()[1]
	nat := func(a *attributed) bool { return a.before != a.after }
	end := func(zone string) func(*attributed) bool {
		return func(a *attributed) bool { return a.from == zone || a.to == zone }
	}
	alive := slices.Clone(l.flows)
	compare := func(t *testing.T) {
		t.Helper()
		list := g.connections(t)
		left := ledger{alive}
		left.check(t, list)
		if len(list) != len(alive) {
			t.Errorf("%d flows are left, want %d", len(list), len(alive))
			for _, c := range list {
				if !slices.ContainsFunc(alive, func(a *attributed) bool { return a.before == c.Before }) {
					t.Errorf("more: %s", c)
				}
			}
		}
	}
	compare(t)
	for _, c := range []struct {
		flags []string
		means func(a *attributed) bool
	}{
		{[]string{"--source", v4.lan1, "--protocol", "udp"}, func(a *attributed) bool { return a.before.Source == v4.lan1 && a.protocol == "udp" }},
		{[]string{"--source", v4.lan1}, func(a *attributed) bool { return a.before.Source == v4.lan1 }},
		{[]string{"--source", "fd00:1::8-fd00:1::10", "--to", "wan"}, func(a *attributed) bool { return a.before.Source == v6.lan1 && a.to == "wan" }},
		{[]string{"--destination", v6.lan1 + "," + v6.uplink, "--port", "8080", "--state", "established"}, func(a *attributed) bool { return a.after.Destination == v6.lan1 && a.tcp != nil }},
		{[]string{"--entry", "port_forward web"}, func(a *attributed) bool { return a.entry == "port_forward web" }},
		{[]string{"--entry", "other6", "--protocol", "tcp"}, func(a *attributed) bool { return a.entry == "port_forward other6" && a.tcp != nil }},
		{[]string{"--source", v4.uplink, "--family", "ipv4", "--from", "dmz"}, func(a *attributed) bool { return a.after.Source == v4.uplink && a.from == "dmz" }},
		{[]string{"--entry", "-"}, func(a *attributed) bool { return a.entry == "" }},
		{[]string{"--zone", "dmz"}, end("dmz")},
		{[]string{"--nat", "--from", "wan"}, func(a *attributed) bool { return nat(a) && a.from == "wan" }},
		{[]string{"--nat"}, nat},
		{[]string{"--all"}, func(*attributed) bool { return true }},
	} {
		var doomed, spared []*attributed
		for _, a := range alive {
			if c.means(a) {
				doomed = append(doomed, a)
			} else {
				spared = append(spared, a)
			}
		}
		if len(doomed) == 0 && c.flags[0] != "--all" && c.flags[0] != "--nat" {
			t.Errorf("%v: there is none", c.flags)
		}
		if c.flags[0] != "--all" {
			list := g.connections(t, c.flags...)
			(&ledger{doomed}).check(t, list)
			if len(list) != len(doomed) {
				t.Errorf("%v: %d are listed, want %d", c.flags, len(list), len(doomed))
			}
		}
		if n := g.kill(t, append(c.flags, "--dry-run")...); n != len(doomed) {
			t.Errorf("%v: %d would be killed, want %d", c.flags, n, len(doomed))
		}
		compare(t)
		if n := g.kill(t, append(c.flags, "--yes")...); n != len(doomed) {
			t.Errorf("%v: %d killed, want %d", c.flags, n, len(doomed))
		}
		alive = spared
		compare(t)
		if n := g.kill(t, append(c.flags, "--yes")...); n != 0 {
			t.Errorf("%v: %d killed again", c.flags, n)
		}
		if t.Failed() {
			return
		}
	}
	// Without being told which, and without a terminal to ask on.
	g.ipmasq(t, 64, "connections kill", "--yes")
	g.ipmasq(t, 64, "connections kill", "--nat")
	g.GW.Sysctl(loose, "1")
	g.delete(t)
}

// A host's flows are cut, and another's go on. What the host sends next opens a
// new flow; what its partner outside sends does not get in any more.
func TestConnectionsKill(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	listens(topo.Server, 80)
	listens(topo.LAN1, 80)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		server := topo.Server.ServeUDP(":5300")
		g.apply(t, twoZones+"masquerade: {from: lan, to: wan}\ninput: {default: drop}\n"+
			ip.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n"))
		var l ledger
		l.both(t, g.LAN1, at(ip.outside, 80), "masquerade lan-wan", "lan", "wan")
		call := l.add(t, "udp", g.LAN1, at(ip.outside, 5300), "masquerade lan-wan", "lan", "wan")
		l.both(t, g.LAN2, at(ip.outside, 80), "masquerade lan-wan", "lan", "wan")
		l.both(t, g.Server, at(ip.uplink, 8080), "port_forward web", "wan", "lan")
		if t.Failed() {
			return
		}
		first, others := l.flows[:3], l.flows[3:]
		list := g.connections(t)
		l.check(t, list)
		ids := map[uint32]bool{}
		for _, c := range list {
			ids[c.ID] = true
		}

		// The partner outside, by itself.
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		arrived := topo.LAN1.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(uint16(call.before.SourcePort))))
		says := func(want int) {
			t.Helper()
			before := arrived.Count()
			if err := topo.Server.SendUDP(at(ip.outside, 5300), at(ip.uplink, call.after.SourcePort), "hello?"); err != nil {
				t.Fatal(err)
			}
			topo.Settle()
			if got := int(arrived.Count() - before); got != want {
				t.Errorf("%d datagrams from outside reached lan1, want %d", got, want)
			}
		}
		says(1)
		if n := g.kill(t, "--source", ip.lan1, "--dry-run"); n != 3 {
			t.Errorf("%d would be killed, want 3", n)
		}
		says(1)
		if n := g.kill(t, "--source", ip.lan1, "--yes"); n != 3 {
			t.Errorf("%d killed, want 3", n)
		}
		says(0)

		list = g.connections(t)
		for _, a := range first {
			if c, listed := a.find(list); listed {
				t.Errorf("%s is still there: %s", a.what, c)
			}
		}
		left := ledger{others}
		left.check(t, list)
		for _, a := range others {
			if c, _ := a.find(list); !ids[c.ID] {
				t.Errorf("%s has become another flow", a.what)
			}
			if a.tcp != nil {
				carries(t, a.tcp)
			} else if _, err := a.udp.Exchange(lab.Patience, "go on"); err != nil {
				t.Errorf("%s: %v", a.what, err)
			}
		}

		// What the host says itself is the beginning of a new flow, of TCP too.
		carries(t, first[0].tcp)
		if _, err := first[1].udp.Exchange(lab.Patience, "again"); err != nil {
			t.Error(err)
		}
		again := ledger{first[:2]}
		again.check(t, g.connections(t))

		// The forward's flow goes, and the next packet of its client is translated
		// anew; after the entry has gone, too, it does not get in.
		web := others[len(others)-1]
		if n := g.kill(t, "--entry", "port_forward web", "--yes"); n != 2 {
			t.Errorf("%d flows of web killed, want 2", n)
		}
		if seen, err := web.udp.Exchange(lab.Patience, "again"); err != nil || seen.Local.String() != at(ip.lan1, 80) {
			t.Errorf("web again: %v, %v", seen, err)
		}
		g.apply(t, twoZones+"masquerade: {from: lan, to: wan}\ninput: {default: drop}\n")
		g.kill(t, "--source", ip.outside, "--yes")
		if _, err := web.udp.Exchange(lab.Silence, "and now?"); !lab.IsTimeout(err) {
			t.Errorf("web without its entry: %v", err)
		}
	})
	g.delete(t)
}
