package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The kernel tells the chains behind routing that what the gateway sends
// itself came in by the interface that made it: neighbour discovery by the
// interface that it leaves by, a tunnel's outer packets by the tunnel
// (net/ipv6/ip6_output.c, "indev = skb->dev"). No zone may take them for its
// own: neither dropped as leaks, nor given another port.

// One interface for both directions: the inside zone is on the link that
// neighbour discovery has to work on.
func TestGatewaysOwnNeighborDiscovery(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"one interface": `
zones:
  near: {interfaces: [eth0], networks: [203.0.113.0/24, "2001:db8:113::/64"]}
  far: {interfaces: [eth0]}
masquerade:
  - {from: near, to: far}
`,
		"from any": `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: any, to: wan}
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server)
			g := applied(t, topo, policy)
			g.Neighbor.DelRoute("default", lab.ISP)
			g.Neighbor.DelRoute("default", lab.ISPv6)
			g.Neighbor.Route("default", lab.GatewayUplink)
			g.Neighbor.Route("default", lab.GatewayUplinkv6)
			for _, h := range []*lab.Host{g.GW, g.ISP, g.Neighbor} {
				h.FlushNeighbors("eth0")
			}
			// Another address is another group to join, which is told from a
			// link-local address.
			g.GW.Addr("eth0", "fd00:55::1/64")
			each(t, func(t *testing.T, ip family) {
				pings(t, g.GW, ip.isp)
				pings(t, g.ISP, ip.uplink)
				opens(t, g.Neighbor, at(ip.outside, 80), ip.uplink)
			})
			for _, e := range g.entries(t) {
				if e.LeaksStopped != 0 {
					t.Errorf("the gateway's own packets were dropped as leaks: %+v", e)
				}
			}
		})
	}
}

// A tunnel whose inside is a zone: the packets that carry it are the gateway's.
func TestGatewaysOwnTunnel(t *testing.T) {
	lab.Require(t, lab.Binary("ip"))
	t.Parallel()
	for _, selection := range []string{"preserve", "fully-random"} {
		t.Run(selection, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server)
			for _, end := range []struct {
				host                  *lab.Host
				local, remote, v4, v6 string
			}{
				{topo.GW, lab.GatewayUplink, lab.Neighbor, "10.8.0.1/24", "fd00:8::1/64"},
				{topo.Neighbor, lab.Neighbor, lab.GatewayUplink, "10.8.0.2/24", "fd00:8::2/64"},
			} {
				end.host.Run(t, "ip", "link", "add", "vx0", "type", "vxlan", "id", "8", "dstport", "4789", "srcport", "4789", "4790",
					"local", end.local, "remote", end.remote, "dev", "eth0")
				end.host.Up("vx0")
				end.host.Addr("vx0", end.v4, end.v6)
			}
			topo.Neighbor.DelRoute("default", lab.ISP)
			topo.Neighbor.DelRoute("default", lab.ISPv6)
			topo.Neighbor.Route("default", "10.8.0.1")
			topo.Neighbor.Route("default", "fd00:8::1")
			carrier := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.IsUDP, lab.DstPort(4789)))
			g := applied(t, topo, `
zones:
  vpn: {interfaces: [vx0]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: vpn, to: wan, port_selection: `+selection+`}
`)
			pings(t, g.GW, "10.8.0.2")
			each(t, func(t *testing.T, ip family) {
				opens(t, g.Neighbor, at(ip.outside, 80), ip.uplink)
				pings(t, g.Neighbor, ip.outside)
			})
			carrier.Sync()
			for _, p := range carrier.Packets() {
				if p.SrcPort != 4789 {
					t.Errorf("the tunnel's own packets were given another port: %v", p)
				}
			}
			if e := g.entry(t, "masquerade vpn-wan"); e.LeaksStopped != 0 {
				t.Errorf("the tunnel's own packets were dropped as leaks: %+v", e)
			}
		})
	}
}
