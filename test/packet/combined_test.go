package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// everything is a policy that uses all sections at once, with two uplinks that
// answer by themselves. Entries of several sections have one name.
const everything = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"], mss_clamp: pmtu}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0], symmetric: true}
  wan2: {interfaces: [eth3], symmetric: {gateway: [192.0.2.1, "2001:db8:2::1"]}}
masquerade:
  - {name: same, from: [lan, dmz], to: [wan, wan2], max_connections: {per_host: 1000}}
snat:
  - {name: same, from: lan, to: wan, sources: "$lan2", addresses: "$11", log: true}
one_to_one:
  - {name: same, zone: wan, outside: "$10", inside: "$dmz", expose: [tcp/81, tcp/2222]}
port_forward:
  - {name: same, from: [wan, wan2], protocol: tcp, ports: 8080, to: ["$blan1:80", "$blan1:81"], max_connections: {total: 100}}
  - {name: public, from: wan, address: "$10", protocol: tcp, ports: 443, to: "$blan1:25"}
  - {name: own, address: "$loopback", protocol: tcp, ports: 90, to: "$blan1:80"}
redirect:
  - {name: same, from: lan, protocol: tcp, ports: 2525, to_port: 3128}
forward:
  rules:
    - {name: same, from: lan, to: dmz, protocol: tcp, ports: 80, action: accept, max_connections: {per_host: 50}, mark: 0x1/0xff}
input:
  rules:
    - {name: same, from: [lan, wan], family: $family, protocol: tcp, ports: 22, action: accept, rate: 1000/second}
`

// everything is the policy of a family. On iptables it has no loopback address,
// which is refused.
func (g *gateway) everything(f family) string {
	all := everything
	if g.variant != "" {
		for line := range strings.Lines(everything) {
			if strings.Contains(line, "$loopback") {
				all = strings.Replace(all, line, "", 1)
			}
		}
	}
	return strings.NewReplacer("$family", strings.ToLower(f.name), "$10", f.public(10), "$11", f.public(11), "$lan2", f.lan2, "$dmz", f.dmz, "$blan1", bracketed(f.lan1), "$loopback", f.loopback()).Replace(all)
}

// Each section does what it says with all the others beside it, opens no more,
// and is counted as itself. What is open stays open while the policy changes
// around it, and delete leaves nothing.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.SecondUplink(), lab.WithoutGuest())
	pool(t, topo, 10, 11)
	answering(topo.Server, topo.LAN1, topo.DMZ)
	listens(topo.GW, 22, 3128, 53)
	listens(topo.Server, 2525)
	listens(topo.DMZ, 2222)
	before := routing(t, topo.GW)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		counted := map[string]uint64{}
		g.apply(t, g.everything(ip))
		for _, e := range g.entries(t) {
			counted[e.Section+" "+e.Name] = e.NewFlows
		}
		leaks := g.leaks(t, "eth0", "eth3")
		var open []*lab.Conn
		opened := func(h *lab.Host, remote, peer string) { open = append(open, opens(t, h, remote, peer)) }
		opened(g.LAN1, at(ip.outside, 80), ip.uplink)
		opened(g.LAN2, at(ip.outside, 80), ip.public(11))
		opened(g.DMZ, at(ip.outside, 80), ip.public(10))
		opened(g.Server, at(ip.public(10), 81), ip.outside)
		opened(g.Neighbor, at(ip.public(10), 2222), ip.neighbor)
		opened(g.Server, at(ip.public(10), 443), ip.outside)
		opened(g.Server, at(ip.uplink, 8080), ip.outside)
		opened(g.Server, at(ip.uplink2, 8080), ip.outside)
		opened(g.LAN1, at(ip.outside, 2525), ip.lan1)
		opened(g.LAN1, at(ip.dmz, 80), ip.lan1)
		opened(g.LAN1, at(ip.public(10), 81), ip.lan1)
		if g.variant == "" {
			opened(g.GW, at(ip.loopback(), 90), ip.gwLAN)
		}
		opened(g.Server, at(ip.uplink, 22), ip.outside)
		opened(g.LAN1, at(ip.uplink2, 8080), ip.gwLAN)
		for name, want := range map[string]uint64{
			"masquerade same": 1, "snat same": 1, "one_to_one same": 4, "port_forward same": 3, "port_forward public": 1,
			"redirect same": 1, "forward same": 1, "input same": 1,
		} {
			if e := g.entry(t, name); e.NewFlows-counted[name] != want {
				t.Errorf("status counts %d flows of %s, want %d", e.NewFlows-counted[name], name, want)
			}
		}

		if g.variant == "" {
			if e := g.entry(t, "port_forward own"); e.NewFlows-counted["port_forward own"] != 1 {
				t.Errorf("status counts %d flows of the loopback address, want 1", e.NewFlows-counted["port_forward own"])
			}
		}

		// From outside, by either uplink and straight to the inside, nothing else.
		closed := []probe{}
		for _, h := range []*lab.Host{g.Server, g.Neighbor, g.ISP2} {
			for _, addr := range []string{ip.lan1, ip.dmz} {
				closed = append(closed, tcp(h, addr, 80), tcp(h, addr, 81), udp(h, addr, 53), ping(h, addr))
			}
			closed = append(closed, tcp(h, ip.public(10), 80), tcp(h, ip.public(10), 22), udp(h, ip.public(10), 53), tcp(h, ip.public(11), 3128), ping(h, ip.public(11)),
				tcp(h, ip.uplink, 3128), tcp(h, ip.uplink2, 3128), tcp(h, ip.uplink, 90), tcp(h, ip.gwLAN, 53), tcp(h, ip.uplink2, 22), tcp(h, ip.uplink2, 443), udp(h, ip.uplink, 53))
		}
		closed = append(closed, tcp(g.LAN1, ip.gwLAN, 3128), tcp(g.LAN1, ip.uplink, 3128), udp(g.LAN1, ip.gwLAN, 53), tcp(g.DMZ, ip.gwDMZ, 22), tcp(g.DMZ, ip.lan1, 80), tcp(g.LAN1, ip.dmz, 81))
		var checks []func()
		for _, p := range closed {
			checks = append(checks, func() {
				var err error
				switch p.proto {
				case "tcp":
					var c *lab.Conn
					if c, err = p.from.DialTCP(lab.Silence, at(p.addr, p.port)); err == nil {
						c.Close()
					}
				case "udp":
					_, err = p.from.UDPExchange("", at(p.addr, p.port), "hello", lab.Silence)
				default:
					_, err = p.from.Ping(p.addr, lab.Silence, lab.PingOptions{})
				}
				// A host that has no way there may say so.
				if !lab.IsTimeout(err) && !lab.IsUnreachable(err) {
					t.Errorf("%s: %v", p, err)
				}
			})
		}
		together(checks...)

		// The policy changes around what is open.
		still := func(what string) {
			for _, c := range open {
				if c == nil {
					continue
				}
				if err := c.Echo(lab.Patience, what); err != nil {
					t.Errorf("%s: %s to %s: %v", what, c.Local(), c.Seen().Local, err)
				}
			}
		}
		still("as it is")
		for _, change := range [][2]string{
			{"mss_clamp: pmtu", "mss_clamp: 1300"},
			{"rate: 1000/second", "log: true"},
			{"max_connections: {total: 100}", "timeouts: {tcp: {established: 1h}}"},
			{"max_connections: {per_host: 1000}", "helpers: ftp"},
			{"zones:\n", "gateway: {reserved_ports: [500]}\nzones:\n"},
			{"expose: [tcp/81, tcp/2222]", "expose: all"},
			{"redirect:\n", "redirect:\n  - {name: more, from: dmz, protocol: udp, ports: 53}\n"},
			{"snat:\n", "snat:\n  - {name: more, from: dmz, to: wan2, addresses: \"" + ip.uplink2 + "\", ports_per_host: 500, sources: \"" + ip.dmz + "\"}\n"},
		} {
			policy := strings.Replace(g.everything(ip), change[0], change[1], 1)
			if policy == g.everything(ip) {
				t.Fatal(change[0])
			}
			g.apply(t, policy)
			still(change[1])
		}
		g.apply(t, g.everything(ip))
		still("and back")
		leaks.none(t)
		leaks.stop()
	})
	g.delete(t)
	if after := routing(t, topo.GW); after != before {
		t.Errorf("delete left routing behind\n%s", difference(before, after))
	}
}
