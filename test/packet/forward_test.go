package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What comes from a zone and matches nothing meets the default.
func TestForwardDefault(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		tcp, udp     func(error) bool
	}{
		{"left out", "", lab.IsTimeout, lab.IsTimeout},
		{"drop", "forward: {default: drop}\n", lab.IsTimeout, lab.IsTimeout},
		{"reject", "forward: {default: reject}\n", lab.IsRefused, lab.IsRefused},
		{"accept", "forward: {default: accept}\n", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes())
			answering(topo.Server, topo.LAN1, topo.DMZ, topo.Guest)
			g := applied(t, topo, zones+c.policy)
			if c.tcp != nil {
				if on := g.GW.GetSysctl("net.ipv4.ip_forward") + g.GW.GetSysctl("net.ipv6.conf.all.forwarding"); on != "00" {
					t.Errorf("a policy that lets nothing pass has turned on forwarding: %s", on)
				}
			}
			g.Forwarding(true)
			each(t, func(t *testing.T, ip family) {
				for _, way := range []struct {
					from *lab.Host
					to   string
				}{{g.LAN1, ip.outside}, {g.LAN1, ip.dmz}, {g.Server, ip.lan1}, {g.Neighbor, ip.dmz}} {
					if c.tcp == nil {
						opens(t, way.from, at(way.to, 80), g.address(way.from, ip))
						asks(t, way.from, at(way.to, 53), g.address(way.from, ip))
						pings(t, way.from, way.to)
						continue
					}
					together(
						func() { fails(t, way.from, at(way.to, 80), c.tcp) },
						func() { failsUDP(t, way.from, at(way.to, 53), c.udp) },
						func() {
							if c.name != "reject" {
								failsPing(t, way.from, way.to)
							} else if r, err := way.from.Ping(way.to, lab.Patience, lab.PingOptions{}); err != nil || !r.Prohibited() {
								t.Errorf("%s pings %s: %v, %v", way.from.Name(), way.to, r, err)
							}
						},
					)
				}
				// No zone, no judgement: to a zone, from where answers may come back.
				opens(t, g.Guest, at(ip.lan1, 80), ip.guest)
				opens(t, g.Guest, at(ip.outside, 80), ip.guest)
				pings(t, g.Guest, ip.dmz)
				if c.tcp != nil {
					fails(t, g.Server, at(ip.guest, 80), c.tcp) // that comes from a zone
				}
			})
			if e := g.entry(t, "forward default"); c.tcp != nil && e.RefusedPackets < 26 {
				t.Errorf("status counts %+v", e)
			}
		})
	}
}

// address is a host's own.
func (g *gateway) address(h *lab.Host, ip family) string {
	switch h {
	case g.LAN1:
		return ip.lan1
	case g.LAN2:
		return ip.lan2
	case g.DMZ:
		return ip.dmz
	case g.Neighbor:
		return ip.neighbor
	}
	return ip.outside
}

// The rules' own conditions: each case has one rule, and what it lets pass and
// what not.
func TestForwardRules(t *testing.T) {
	type ways func(g *gateway, ip family) []probe
	lanTo := func(port int, more ...int) ways {
		return func(g *gateway, ip family) []probe {
			out := []probe{tcp(g.LAN1, ip.dmz, port)}
			for _, p := range more {
				out = append(out, tcp(g.LAN1, ip.dmz, p))
			}
			return out
		}
	}
	everything := func(g *gateway, ip family) []probe {
		return []probe{tcp(g.LAN1, ip.dmz, 80), tcp(g.LAN1, ip.outside, 80), udp(g.DMZ, ip.lan1, 53), ping(g.Server, ip.lan1)}
	}
	for _, c := range []struct {
		name, rule string
		sets       string
		passes     ways
		not        ways
	}{
		{name: "all", rule: `{name: x, action: accept}`, passes: everything},
		{name: "any", rule: `{from: any, to: any, action: accept}`, passes: everything},
		{
			name: "zones", rule: `{from: lan, to: dmz, action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), udp(g.LAN2, ip.dmz, 53), ping(g.LAN1, ip.dmz)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.DMZ, ip.lan1, 80), tcp(g.LAN1, ip.outside, 80), tcp(g.Server, ip.dmz, 80), ping(g.DMZ, ip.lan1)}
			},
		},
		{
			name: "several zones", rule: `{from: [lan, wan], to: [dmz, wan], protocol: tcp, action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), tcp(g.LAN1, ip.outside, 80), tcp(g.Server, ip.dmz, 80)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.DMZ, ip.outside, 80), tcp(g.Server, ip.lan1, 80), udp(g.LAN1, ip.dmz, 53)}
			},
		},
		{
			name: "sources", rule: `{from: lan, sources: [192.168.1.10, "fd00:1::10"], action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.dmz, 80)} },
		},
		{
			name: "except_sources", rule: `{from: lan, except_sources: [192.168.1.11, "fd00:1::11"], action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.dmz, 80)} },
		},
		{
			name: "sources without zones", rule: `{name: x, sources: [192.168.1.10, "fd00:1::10", 198.51.100.9, "2001:db8:100::9"], action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), tcp(g.Server, ip.dmz, 80)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN2, ip.dmz, 80), tcp(g.Neighbor, ip.dmz, 80)}
			},
		},
		{
			name: "sets", sets: "sets: {hosts: [192.168.1.10, 198.51.100.9, \"fd00:1::10\", \"2001:db8:100::9\"], services: [192.168.2.0/28, \"fd00:2::10-fd00:2::1f\"]}",
			rule: `{name: x, sources: "@hosts", destinations: "@services", action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), tcp(g.Server, ip.dmz, 80)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN2, ip.dmz, 80), tcp(g.LAN1, ip.outside, 80), tcp(g.Server, ip.lan1, 80)}
			},
		},
		{
			name: "except a set", sets: "sets: {hosts: [192.168.1.11, \"fd00:1::11\"]}",
			rule:   `{from: lan, sources: [192.168.1.0/24, "fd00:1::/64"], except_sources: ["@hosts", 192.168.1.200, "fd00:1::c8"], action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.dmz, 80)} },
		},
		{
			name: "destinations", rule: `{from: lan, destinations: [192.168.2.8/29, "fd00:2::10"], action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
		},
		{
			name: "except_destinations", rule: `{from: lan, except_destinations: [198.51.100.0/24, "2001:db8:100::/64"], action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
		},
		{
			name: "protocol", rule: `{from: lan, to: dmz, protocol: udp, action: accept}`,
			passes: func(g *gateway, ip family) []probe { return []probe{udp(g.LAN1, ip.dmz, 53)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.dmz, 80), ping(g.LAN1, ip.dmz)} },
		},
		{
			name: "protocol by number", rule: `{from: lan, to: dmz, protocol: 17, action: accept}`,
			passes: func(g *gateway, ip family) []probe { return []probe{udp(g.LAN1, ip.dmz, 53)} },
			not:    lanTo(80),
		},
		{
			name: "port", rule: `{from: lan, to: dmz, protocol: tcp, ports: 80, action: accept}`,
			passes: lanTo(80),
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 81), udp(g.LAN1, ip.dmz, 80), ping(g.LAN1, ip.dmz)}
			},
		},
		{
			name: "ports", rule: `{from: lan, to: dmz, protocol: [tcp, udp], ports: [20-30, 53, 81], action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 22), tcp(g.LAN1, ip.dmz, 25), tcp(g.LAN1, ip.dmz, 81), udp(g.LAN1, ip.dmz, 53)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), udp(g.LAN1, ip.dmz, 123), ping(g.LAN1, ip.dmz)}
			},
		},
		{
			name: "ping", rule: `{from: lan, to: dmz, icmp_types: echo-request, action: accept}`,
			passes: func(g *gateway, ip family) []probe { return []probe{ping(g.LAN1, ip.dmz)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.dmz, 80), ping(g.DMZ, ip.lan1)} },
		},
		{
			name: "no ping", rule: `{from: lan, to: dmz, icmp_types: echo-request, action: drop}
    - {name: rest, from: lan, to: dmz, action: accept}`,
			passes: lanTo(80),
			not:    func(g *gateway, ip family) []probe { return []probe{ping(g.LAN1, ip.dmz)} },
		},
		{
			name: "first match", rule: `{name: a, from: lan, protocol: tcp, ports: 22, action: drop}
    - {name: b, from: lan, to: dmz, protocol: tcp, ports: [22, 80], action: accept}
    - {name: c, from: any, protocol: tcp, ports: 80, action: drop}
    - {name: d, action: accept}`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 80), tcp(g.LAN1, ip.dmz, 81), tcp(g.DMZ, ip.lan1, 22)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.dmz, 22), tcp(g.LAN1, ip.outside, 80), tcp(g.DMZ, ip.lan1, 80)}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
			answering(topo.Server, topo.LAN1, topo.DMZ)
			g := applied(t, topo, zones+c.sets+"\nforward:\n  rules:\n    - "+c.rule+"\n")
			each(t, func(t *testing.T, ip family) {
				for _, p := range c.passes(g, ip) {
					p.sees(t, g.address(p.from, ip))
				}
				if c.not == nil {
					return
				}
				var checks []func()
				for _, p := range c.not(g, ip) {
					checks = append(checks, p.drops(t))
				}
				together(checks...)
			})
			g.delete(t)
		})
	}
}

// Source ports are those of the one who asks.
func TestForwardSourcePorts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+`
forward:
  rules:
    - {from: lan, to: dmz, protocol: [tcp, udp], source_ports: [500, 4000-4010], ports: [53, 80], action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		for _, local := range []string{":500", ":4000", ":4010"} {
			opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1, lab.From(local))
		}
		if _, err := g.LAN1.UDPExchange(":4005", at(ip.dmz, 53), "hello", lab.Patience); err != nil {
			t.Error(err)
		}
		together(
			func() { fails(t, g.LAN1, at(ip.dmz, 80), lab.IsTimeout, lab.From(":3999")) },
			func() { fails(t, g.LAN1, at(ip.dmz, 80), lab.IsTimeout, lab.From(":4011")) },
			func() { fails(t, g.LAN1, at(ip.dmz, 81), lab.IsTimeout, lab.From(":4003")) },
		)
	})
}

// A refusal is an answer that each protocol understands.
func TestForwardActions(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {from: lan, to: wan}
forward:
  rules:
    # Rules come before what masquerade opened.
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
    - {name: no-ssh, from: lan, to: wan, protocol: tcp, ports: 22, action: drop}
    - {name: no-time, from: lan, to: wan, protocol: udp, ports: 123, action: reject}
    - {name: mixed, from: lan, to: wan, protocol: [tcp, udp], ports: 81, action: reject}
    - {name: no-detour, from: lan, to: dmz, action: reject}
    - {name: no-carrier, from: lan, to: wan, protocol: [gre, esp], action: reject}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		fails(t, g.LAN1, at(ip.outside, 25), lab.IsRefused)
		fails(t, g.LAN1, at(ip.outside, 22), lab.IsTimeout)
		fails(t, g.LAN1, at(ip.outside, 81), lab.IsRefused)
		failsUDP(t, g.LAN1, at(ip.outside, 123), lab.IsRefused)
		failsUDP(t, g.LAN1, at(ip.outside, 81), lab.IsRefused)
		fails(t, g.LAN1, at(ip.dmz, 80), lab.IsRefused)
		failsUDP(t, g.LAN1, at(ip.dmz, 53), lab.IsRefused)
		if r, err := g.LAN1.Ping(ip.dmz, lab.Patience, lab.PingOptions{}); err != nil || !r.Prohibited() || r.From.String() != ip.gwLAN {
			t.Errorf("ping the dmz: %v, %v", r, err)
		}
		for _, proto := range []uint8{47, 50} {
			told := g.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP))
			g.LAN1.SendPacket("eth0", lab.Raw{Header: lab.Between(ip.lan1, ip.outside), Proto: proto, Payload: make([]byte, 24)}.Bytes())
			packets, err := told.Wait(1, lab.Patience)
			if err != nil || !(lab.ICMP{V6: ip.v6(), Type: packets[0].ICMPType, Code: packets[0].ICMPCode}).Prohibited() {
				t.Errorf("protocol %d: %v, %v", proto, err, told)
			}
		}
	})
	for name, want := range map[string]uint64{"no-smtp": 2, "no-ssh": 2, "no-time": 2, "mixed": 4, "no-detour": 6, "no-carrier": 4} {
		if e := g.entry(t, "forward "+name); e.RefusedPackets != want {
			t.Errorf("status counts %+v, want %d packets refused", e, want)
		}
	}
	g.delete(t)
}
