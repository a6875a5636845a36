package packet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What no rule names is of the default that let it pass, and what comes from no
// zone is nobody's.
func TestConnectionsDefault(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	for _, h := range []*lab.Host{topo.Server, topo.LAN1, topo.DMZ, topo.Guest, topo.GW} {
		listens(h, 80)
	}
	for _, h := range []*lab.Host{topo.ISP, topo.Neighbor} { // and to the guests too
		h.Route("10.99.0.0/24", lab.GatewayUplink)
		h.Route("fd00:99::/64", lab.GatewayUplinkv6)
	}
	g := applied(t, topo, zones+"forward: {default: accept}\ninput: {default: accept, rules: [{name: no-ssh, from: any, protocol: tcp, ports: 22, action: drop}]}\n")
	each(t, func(t *testing.T, ip family) {
		const passed = "forward default"
		var l ledger
		l.both(t, g.LAN1, at(ip.outside, 80), passed, "lan", "wan")
		l.both(t, g.Server, at(ip.lan1, 80), passed, "wan", "lan")
		l.both(t, g.DMZ, at(ip.lan1, 80), passed, "dmz", "lan")
		l.both(t, g.Neighbor, at(ip.guest, 80), passed, "wan", "")
		l.pinged(t, g.LAN1, ip.lan1, ip.outside, ends{Source: ip.lan1, Destination: ip.outside}, passed, "lan", "wan")
		l.both(t, g.Guest, at(ip.lan1, 80), "", "", "lan")
		l.both(t, g.Guest, at(ip.outside, 80), "", "", "wan")
		l.both(t, g.Neighbor, at(ip.uplink, 80), "input default", "wan", "gateway")
		l.both(t, g.GW, at(ip.guest, 80), "", "gateway", "")
		loopback := map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()]
		l.both(t, g.GW, at(loopback, 80), "", "gateway", "gateway")
		l.check(t, g.connections(t))
	})
	g.delete(t)
}

// others is a table of somebody else's, which translates for the guests, whose
// network is in no zone, and on a port that no entry has.
func (f family) others() string {
	return strings.NewReplacer("$ip", map[bool]string{false: "ip", true: "ip6"}[f.v6()], "$guest", f.guest, "$brackets", bracketed(f.guest)).Replace(`
table $ip others {
	chain destination_nat {
		type nat hook prerouting priority dstnat - 5;
		iifname eth0 meta l4proto { tcp, udp } th dport 2222 dnat to $brackets:80
	}
	chain source_nat {
		type nat hook postrouting priority srcnat - 5;
		$ip saddr $guest oifname eth0 masquerade
	}
}
`)
}

// What another table translated is nobody's, whatever let it pass; and our own
// flows are ours beside it.
func TestConnectionsForeign(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ())
	for _, h := range []*lab.Host{topo.Server, topo.LAN1, topo.Guest} {
		listens(h, 80)
	}
	for _, ip := range families() {
		topo.GW.Feed(t, ip.others(), "nft", "-f", "-")
	}
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, twoZones+"masquerade: {from: lan, to: wan}\nforward: {default: accept}\n"+
			ip.forwards(`  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}`+"\n"))
		var l ledger
		l.both(t, g.Guest, at(ip.outside, 80), "", "", "wan")
		l.both(t, g.Neighbor, at(ip.uplink, 2222), "", "wan", "")
		l.both(t, g.Server, at(ip.uplink, 2222), "", "wan", "")
		l.pinged(t, g.Guest, ip.guest, ip.outside, ends{Source: ip.uplink, Destination: ip.outside}, "", "", "wan")
		l.both(t, g.LAN1, at(ip.outside, 80), "masquerade lan-wan", "lan", "wan")
		l.both(t, g.Server, at(ip.uplink, 8080), "port_forward web", "wan", "lan")
		list := g.connections(t)
		l.check(t, list)
		// "-" is a filter for just these.
		others := g.connections(t, "--entry", "-")
		for _, a := range l.flows {
			if _, listed := a.find(others); listed != (a.entry == "") {
				t.Errorf("%s: listed as nobody's: %v", a.what, listed)
			}
		}
	})
	g.delete(t)
}

// A flow that came in by the second uplink, or left by it, is of that zone.
func TestConnectionsTwoUplinks(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	listens(topo.ISP2, 80)
	g := applied(t, topo, symmetricZones("", viaISP2))
	each(t, func(t *testing.T, ip family) {
		suffix := map[bool]string{false: "", true: "6"}[ip.v6()]
		var l ledger
		l.add(t, "tcp", g.Server, at(ip.uplink, 81), "port_forward web"+suffix, "wan", "lan")
		l.add(t, "tcp", g.Server, at(ip.uplink2, 81), "port_forward web"+suffix, "wan2", "lan")
		l.add(t, "udp", g.Server, at(ip.uplink, 123), "port_forward dns"+suffix, "wan", "lan")
		l.add(t, "udp", g.Server, at(ip.uplink2, 123), "port_forward dns"+suffix, "wan2", "lan")
		l.add(t, "tcp", g.LAN1, at(ip.outside, 80), "masquerade lan-wan-wan2", "lan", "wan")
		l.both(t, g.LAN1, at(ip.isp2, 80), "masquerade lan-wan-wan2", "lan", "wan2")
		l.add(t, "tcp", g.Server, at(ip.uplink2, 22), "", "wan2", "gateway")
		l.check(t, g.connections(t))
		if t.Failed() {
			for _, e := range g.entries(t) {
				t.Logf("%s %s", e.Section, e.Name)
			}
		}
	})
	g.delete(t)
}

// Data connections that a helper announced are of the entry of their control
// connection, which they name.
func TestConnectionsFTP(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := untouched(t, topo)
	servesFTP(t, g, topo.Server, 21)
	servesFTP(t, g, topo.LAN2, 21)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, twoZones+"masquerade: {from: lan, to: wan, helpers: ftp}\n"+
			ip.forwards(`  - {name: files, from: wan, protocol: tcp, ports: 2121, to: "$lan2:21", helpers: {ftp: 2121}}`+"\n"))
		for _, c := range []struct {
			client         *lab.Host
			address        string
			server, inside string
			entry          string
			from, to       string
		}{
			{topo.LAN1, ip.lan1, at(ip.outside, 21), ip.lan1, "masquerade lan-wan", "lan", "wan"},
			{topo.Server, ip.outside, at(ip.uplink, 2121), ip.lan2, "port_forward files", "wan", "lan"},
		} {
			modes := ftpPassive()
			for i, m := range append(modes, ftpActive()...) {
				if m.ipv4 && ip.v6() {
					continue
				}
				before := g.connections(t, "--state", "expected")
				if err := fetch(c.client, c.server, m.args...); err != nil {
					t.Errorf("%s %s: %v", c.client.Name(), m.name, err)
					continue
				}
				now := g.connections(t, "--state", "expected")
				if len(now)-len(before) != 2 {
					t.Errorf("%s %s: %d data connections more, want 2", c.client.Name(), m.name, len(now)-len(before))
				}
				active := i >= len(modes)
				for _, data := range now {
					if data.Master == nil || data.Master.Protocol != "tcp" {
						t.Errorf("%s: without a control connection", data)
						continue
					}
					control := at(data.Master.Before.Destination, data.Master.Before.DestinationPort)
					if control != c.server || data.Master.Before.Source != c.address || seenBefore(before, data) {
						continue
					}
					// Who connects back comes from the other side.
					from, to := c.from, c.to
					if active {
						from, to = to, from
					}
					if data.Entry != c.entry || data.From != from || data.To != to {
						t.Errorf("%s %s: %s; want %s, %s to %s", c.client.Name(), m.name, data, c.entry, from, to)
					}
					if data.Before.Source != c.inside && data.Before.Destination != c.inside && data.After.Source != c.inside && data.After.Destination != c.inside {
						t.Errorf("%s: %s is not an end of it", data, c.inside)
					}
				}
			}
			// The control connection itself, at the helper.
			found := 0
			for _, control := range g.connections(t, "--entry", c.entry, "--destination-port", "21", "--port", "21") {
				if control.Helper == "ftp" && control.Master == nil && control.From == c.from && control.To == c.to {
					found++
				}
			}
			if found == 0 {
				t.Errorf("no control connection of %s with its helper", c.entry)
			}
		}
	})
	g.delete(t)
}

// What a helper announced and nobody has opened yet is listed apart, with the
// control connection and its entry.
func TestConnectionsExpected(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	topo.Server.ServeTCP(":21")
	g := applied(t, topo, twoZones+"masquerade: {from: lan, to: wan, helpers: ftp}\n")
	expected := func(t *testing.T) []expected {
		t.Helper()
		var list struct{ Expected []expected }
		out := g.ipmasq(t, 0, "connections list", "--expected", "-o", "json")
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		return list.Expected
	}
	each(t, func(t *testing.T, ip family) {
		if list := expected(t); len(list) != 0 {
			t.Errorf("expected at first: %+v", list)
		}
		c := opens(t, g.LAN1, at(ip.outside, 21), ip.uplink)
		if c == nil {
			return
		}
		carries(t, c) // a helper reads lines that follow another one
		command := "PORT 192,168,1,10,100,1\r\n"
		if ip.v6() {
			command = "EPRT |2|fd00:1::10|25601|\r\n"
		}
		for _, line := range []string{"NOOP\r\n", command} {
			if _, err := c.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 100)); err != nil { // so that each is a packet of its own
				t.Fatal(err)
			}
		}
		list := expected(t)
		if len(list) != 1 {
			t.Fatalf("expected: %+v, want one", list)
		}
		e := list[0]
		want := ends{Source: ip.outside, Destination: ip.uplink, DestinationPort: e.Expects.DestinationPort}
		if e.Protocol != "tcp" || e.Helper != "ftp" || e.Entry != "masquerade lan-wan" || e.Expects != want || e.Expects.DestinationPort == 0 ||
			e.Timeout < 1 || e.Timeout > 300 || e.Master.Before != between(c.Local(), netip.MustParseAddrPort(at(ip.outside, 21))) {
			t.Errorf("expected: %+v", e)
		}
		// The connection that it was for, and then there is none expected any more.
		topo.LAN1.ServeTCP(at(ip.lan1, 25601))
		lands(t, "tcp", topo.Server, at(ip.uplink, e.Expects.DestinationPort), at(ip.lan1, 25601), "")
		if list := expected(t); len(list) != 0 {
			t.Errorf("expected still: %+v", list)
		}
	})
	g.delete(t)
}

// expected is an expectation as connections list --expected -o json shows it.
type expected struct {
	Protocol string `json:"protocol"`
	Expects  ends   `json:"expects"`
	Helper   string `json:"helper"`
	Entry    string `json:"entry"`
	Timeout  int    `json:"timeout"`
	Master   struct {
		Before ends `json:"before"`
	} `json:"master"`
}

func seenBefore(list []connection, c connection) bool {
	for _, x := range list {
		if fmt.Sprint(x.Before, x.After) == fmt.Sprint(c.Before, c.After) {
			return true
		}
	}
	return false
}
