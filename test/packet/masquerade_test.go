package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Everything that an inside host opens leaves with the gateway's own address,
// and the answers come back to it.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	topo.Server.ServeTCP(":80")
	topo.Server.ServeUDP(":53")
	topo.LAN1.ServeTCP(":80")
	topo.DMZ.ServeTCP(":80")
	g := applied(t, topo, zones+`
masquerade:
  - {from: [lan, dmz], to: wan}
`)
	g.Neighbor.Route("192.168.0.0/16", lab.GatewayUplink)
	g.Neighbor.Route("fd00::/8", lab.GatewayUplinkv6)
	each(t, func(t *testing.T, ip family) {
		for _, h := range []*lab.Host{g.LAN1, g.LAN2, g.DMZ} {
			carries(t, opens(t, h, at(ip.outside, 80), ip.uplink))
			asks(t, h, at(ip.outside, 53), ip.uplink)
			pings(t, h, ip.outside)
		}
		together(
			// The gateway's own ports are nobody's business here.
			func() { fails(t, g.Neighbor, at(ip.uplink, 80), lab.IsRefused) },
			// A neighbour outside who knows the way in.
			func() { fails(t, g.Neighbor, at(ip.lan1, 80), lab.IsTimeout) },
			func() { failsPing(t, g.Neighbor, ip.lan1) },
			// The inside networks are apart.
			func() { fails(t, g.LAN1, at(ip.dmz, 80), lab.IsTimeout) },
		)
	})
	if e := g.entry(t, "masquerade lan-dmz-wan"); e.NewFlows != 18 || e.LeaksStopped != 0 {
		t.Errorf("status counts %+v, want 18 flows", e)
	}
	g.delete(t)
	each(t, func(t *testing.T, ip family) { fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout) })
}

// An entry translates what it matches and opens the path for that alone.
func TestMasqueradeNarrowed(t *testing.T) {
	for _, c := range []struct {
		name, entry  string
		passes, not  func(g *gateway, ip family) []probe
		sets         string
		plain        bool // what the entry leaves out passes, as it is
		onlyOnFamily string
	}{
		{
			name: "sources", entry: `sources: [192.168.1.10, "fd00:1::10"]`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.outside, 80)} },
		},
		{
			name: "range of sources", entry: `sources: [192.168.1.9-192.168.1.10, "fd00:1::f-fd00:1::10"]`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.outside, 80)} },
		},
		{
			name: "except_sources", entry: `except_sources: [192.168.1.11, "fd00:1::11"]`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN2, ip.outside, 80)} },
		},
		{
			name: "destinations", entry: `destinations: [198.51.100.0/24, "2001:db8:100::/64"]`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.isp, 80)} },
		},
		{
			name: "a set", sets: `sets: {far: [198.51.100.0/24, "2001:db8:100::/64"]}`, entry: `destinations: "@far"`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.isp, 80)} },
		},
		{
			name: "a set and more", sets: `sets: {far: [198.51.100.0/24, "2001:db8:100::/64"]}`,
			entry: `destinations: ["@far", 203.0.113.3, "2001:db8:113::3"]`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.outside, 80), tcp(g.LAN1, ip.neighbor, 80)}
			},
			not: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.isp, 80)} },
		},
		{
			name: "except_destinations", entry: `except_destinations: [203.0.113.0/24, "2001:db8:113::/64"]`, plain: true,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.isp, 80)} },
		},
		{
			name: "except a set", sets: `sets: {near: [203.0.113.0/24, "2001:db8:113::/64"]}`, plain: true,
			entry:  `except_destinations: "@near"`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.isp, 80)} },
		},
		{
			// Transit never goes to the gateway's own addresses: the word leaves nothing out here.
			name: "except gateway", entry: `except_destinations: [gateway, 203.0.113.3, "2001:db8:113::3"]`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.outside, 80), tcp(g.LAN1, ip.isp, 80)}
			},
			not: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.neighbor, 80)} },
		},
		{
			// An exception of one family says nothing about the other.
			name: "exception in IPv4", entry: `except_destinations: [198.51.100.0/24]`, onlyOnFamily: "IPv6",
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
		},
		{
			name: "family", entry: `family: ipv4`, onlyOnFamily: "IPv4",
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not:    func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
		},
		{
			name: "protocol", entry: `protocol: tcp`,
			passes: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
			not: func(g *gateway, ip family) []probe {
				return []probe{udp(g.LAN1, ip.outside, 53), ping(g.LAN1, ip.outside)}
			},
		},
		{
			name: "protocols", entry: `protocol: [udp, icmp, icmpv6]`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{udp(g.LAN1, ip.outside, 53), ping(g.LAN1, ip.outside)}
			},
			not: func(g *gateway, ip family) []probe { return []probe{tcp(g.LAN1, ip.outside, 80)} },
		},
		{
			name: "ports", entry: `protocol: [tcp, udp], ports: [50-60, 80]`,
			passes: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.outside, 80), udp(g.LAN1, ip.outside, 53)}
			},
			not: func(g *gateway, ip family) []probe {
				return []probe{tcp(g.LAN1, ip.outside, 81), udp(g.LAN1, ip.outside, 123), ping(g.LAN1, ip.outside)}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server, topo.ISP, topo.Neighbor)
			g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
`+c.sets+`
masquerade:
  - {from: lan, to: wan, `+c.entry+`}
`)
			// What is left out must not pass even where the host forwards.
			g.Forwarding(true)
			each(t, func(t *testing.T, ip family) {
				if c.onlyOnFamily == "" || c.onlyOnFamily == ip.name {
					for _, p := range c.passes(g, ip) {
						p.sees(t, ip.uplink)
					}
				}
				if c.onlyOnFamily == "" || c.onlyOnFamily != ip.name {
					for _, p := range c.not(g, ip) {
						p.dropped(t)
					}
				}
			})
			if !c.plain {
				return
			}
			// An exception leaves as it is where a rule lets it pass.
			g.apply(t, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
`+c.sets+`
masquerade:
  - {from: lan, to: wan, `+c.entry+`}
forward:
  rules:
    - {from: lan, to: wan, action: accept}
`)
			each(t, func(t *testing.T, ip family) {
				for _, p := range c.passes(g, ip) {
					p.sees(t, ip.uplink)
				}
				for _, p := range c.not(g, ip) {
					p.sees(t, ip.lan1)
				}
			})
			if e := g.entry(t, "masquerade lan-wan"); e.LeaksStopped != 0 {
				t.Errorf("exceptions were counted as leaks: %+v", e)
			}
		})
	}
}

// The first entry that matches translates.
func TestMasqueradeOrder(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {name: few, from: lan, to: wan, protocol: tcp, ports: 80, outside_ports: 40000-40099}
  - {name: rest, from: any, to: [dmz, wan], outside_ports: 50000-50099}
`)
	each(t, func(t *testing.T, ip family) {
		for _, c := range []struct {
			from  *lab.Host
			port  int
			first uint16
		}{{g.LAN1, 80, 40000}, {g.LAN1, 81, 50000}, {g.DMZ, 80, 50000}} {
			conn := opens(t, c.from, at(ip.outside, c.port), ip.uplink)
			if conn != nil && (conn.Seen().Peer.Port() < c.first || conn.Seen().Peer.Port() > c.first+99) {
				t.Errorf("%s to port %d: the server saw %v", c.from.Name(), c.port, conn.Seen().Peer)
			}
		}
		// An inside network can be the outside of another.
		opens(t, g.LAN1, at(ip.dmz, 80), ip.gwDMZ)
	})
	if few, rest := g.entry(t, "masquerade few"), g.entry(t, "masquerade rest"); few.NewFlows != 2 || rest.NewFlows != 6 {
		t.Errorf("status counts %+v and %+v, want 2 and 6 flows", few, rest)
	}
	g.delete(t)
}

// With forward: false an entry translates and opens nothing.
func TestMasqueradeWithoutForward(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	policy := `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan, forward: false}
`
	g := applied(t, topo, policy)
	g.Forwarding(true)
	each(t, func(t *testing.T, ip family) {
		together(tcp(g.LAN1, ip.outside, 80).drops(t), udp(g.LAN1, ip.outside, 53).drops(t), ping(g.LAN1, ip.outside).drops(t))
	})
	g.apply(t, policy+`
forward:
  rules:
    - {from: lan, to: wan, protocol: tcp, ports: 80, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
		together(tcp(g.LAN1, ip.outside, 81).drops(t), udp(g.LAN1, ip.outside, 53).drops(t), ping(g.LAN1, ip.outside).drops(t))
	})
}
