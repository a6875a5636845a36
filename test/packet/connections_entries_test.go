package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// everyKind is a policy with an entry of each kind.
func (f family) everyKind() string {
	pool := "203.0.113.40-203.0.113.41"
	if f.v6() {
		pool = `"2001:db8:113::40-2001:db8:113::41"`
	}
	return zones + strings.NewReplacer("$pool", pool).Replace(`
snat: {name: dmz-out, from: dmz, to: wan, addresses: [$pool]}
redirect:
  - {name: proxy, from: lan, protocol: [tcp, udp], ports: 8888, to_port: 3128}
masquerade: {from: lan, to: wan}
forward:
  rules:
    - {name: inner, from: lan, to: dmz, action: accept}
    - {name: never, from: dmz, to: lan, protocol: tcp, ports: 25, action: drop}
input:
  default: drop
  rules:
    - {name: pages, from: [lan, dmz], protocol: [tcp, udp], ports: [80, 53], action: accept}
    - {name: told, from: wan, icmp_types: echo-request, action: accept}
`) + f.mapped(`
  - {name: public, zone: wan, outside: "$10", inside: "$lan2", expose: [tcp/80, udp/80]}
`) + f.forwards(`
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 9000-9010, to: "$lan1:7000-7010"}
  - {name: turns, from: wan, protocol: [tcp, udp], ports: 8081, to: ["$lan1:80", "$lan2:81"]}
  - {name: seen, from: wan, protocol: [tcp, udp], ports: 8083, to: "$lan1:80", masquerade: true}
  - name: vms
    from: wan
    map:
      tcp/8090: "$lan1:80"
      udp/8090: "$lan2:81"
      tcp/8100-8110: "$dmz"
`)
}

// fill opens flows of every entry of everyKind, from all sides.
func (l *ledger) fill(t *testing.T, g *gateway, ip family) {
	t.Helper()
	const (
		masquerade, snat  = "masquerade lan-wan", "snat dmz-out"
		public, web       = "one_to_one public", "port_forward web"
		spread, turns     = "port_forward range", "port_forward turns"
		seen, vms         = "port_forward seen", "port_forward vms"
		redirect, inner   = "redirect proxy", "forward inner"
		pages, inputPings = "input pages", "input told"
	)
	out := at(ip.outside, 80)
	l.both(t, g.LAN1, out, masquerade, "lan", "wan")
	l.both(t, g.LAN1, at(ip.neighbor, 80), masquerade, "lan", "wan")
	l.pinged(t, g.LAN1, ip.lan1, ip.outside, ends{Source: ip.uplink, Destination: ip.outside}, masquerade, "lan", "wan")
	l.both(t, g.DMZ, out, snat, "dmz", "wan")

	l.both(t, g.LAN2, out, public, "lan", "wan")
	for _, h := range []*lab.Host{g.Server, g.Neighbor} {
		l.both(t, h, at(ip.public(10), 80), public, "wan", "lan")
	}
	l.both(t, g.DMZ, at(ip.public(10), 80), public, "dmz", "lan")
	l.both(t, g.LAN1, at(ip.public(10), 80), public, "lan", "lan")
	l.both(t, g.GW, at(ip.public(10), 80), public, "gateway", "lan")

	for _, h := range []struct {
		host *lab.Host
		zone string
	}{{g.Server, "wan"}, {g.Neighbor, "wan"}, {g.DMZ, "dmz"}, {g.LAN2, "lan"}, {g.LAN1, "lan"}, {g.GW, "gateway"}} {
		l.both(t, h.host, at(ip.uplink, 8080), web, h.zone, "lan")
		l.both(t, h.host, at(ip.uplink, 9003), spread, h.zone, "lan")
		l.both(t, h.host, at(ip.uplink, 8083), seen, h.zone, "lan")
		for range 3 { // each target
			l.both(t, h.host, at(ip.uplink, 8081), turns, h.zone, "lan")
		}
		l.both(t, h.host, at(ip.uplink, 8090), vms, h.zone, "lan")
		l.add(t, "tcp", h.host, at(ip.uplink, 8105), vms, h.zone, "dmz")
	}

	l.both(t, g.LAN1, at(ip.outside, 8888), redirect, "lan", "gateway")
	l.both(t, g.LAN2, at(ip.gwLAN, 8888), redirect, "lan", "gateway")
	l.both(t, g.LAN1, at(ip.dmz, 80), inner, "lan", "dmz")
	l.pinged(t, g.LAN1, ip.lan1, ip.dmz, ends{Source: ip.lan1, Destination: ip.dmz}, inner, "lan", "dmz")
	l.both(t, g.LAN1, at(ip.gwLAN, 80), pages, "lan", "gateway")
	l.both(t, g.DMZ, at(ip.uplink, 80), pages, "dmz", "gateway")
	l.pinged(t, g.Neighbor, ip.neighbor, ip.uplink, ends{Source: ip.neighbor, Destination: ip.uplink}, inputPings, "wan", "gateway")

	// What the gateway does itself, and what comes from no zone, is nobody's.
	l.both(t, g.GW, out, "", "gateway", "wan")
	l.both(t, g.GW, at(ip.lan1, 80), "", "gateway", "lan")
	guest := map[bool]string{false: lab.GatewayGuest, true: lab.GatewayGuestv6}[ip.v6()]
	l.both(t, g.Guest, at(guest, 80), "", "", "gateway")
}

func everywhere(topo *lab.Topology) {
	for _, h := range []*lab.Host{topo.Server, topo.Neighbor, topo.LAN1, topo.LAN2, topo.DMZ, topo.GW} {
		listens(h, 80, 81)
	}
	listens(topo.LAN1, 7003)
	listens(topo.DMZ, 8105)
	listens(topo.GW, 3128)
}

// Every flow is of the entry that translated it or let it pass, between the
// zones that it goes between, and has the tuples that its two ends see. An apply
// of the same policy changes nothing of that, and cuts none.
func TestConnectionsEntries(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	pool(t, topo, 10, 10)
	pool(t, topo, 40, 41)
	everywhere(topo)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		policy := ip.everyKind()
		g.apply(t, policy)
		var l ledger
		if l.fill(t, g, ip); t.Failed() {
			return
		}
		list := g.connections(t)
		l.check(t, list)
		l.counts(t, list, false)
		if t.Failed() {
			return
		}
		g.apply(t, policy)
		l.check(t, g.connections(t))
		for _, a := range l.flows {
			if a.tcp != nil {
				carries(t, a.tcp)
			}
		}
		// Moved to the end of the file the entries are as they were.
		g.apply(t, policy+"sets: {unused: [192.0.2.0/24]}\n")
		l.check(t, g.connections(t))
	})
	g.delete(t)
}
