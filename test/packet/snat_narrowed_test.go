package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A pool for some destinations, and with ports by chance.
func TestSNATNarrowed(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 42)
	answering(topo.Server, topo.ISP, topo.Neighbor)
	g := applied(t, topo, twoZones+`
snat:
  - {name: far, from: lan, to: wan, destinations: [198.51.100.0/24, "2001:db8:100::/64"], addresses: [203.0.113.40, "2001:db8:113::40"], port_selection: random}
  - {name: near, from: lan, to: wan, destinations: [203.0.113.3, "2001:db8:113::3"], addresses: [203.0.113.41-203.0.113.42, "2001:db8:113::41-2001:db8:113::42"], port_selection: fully-random, outside_ports: 50000-60000}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		kept := 0
		for _, local := range []string{":4000", ":4001", ":4002", ":4003"} {
			for proto, port := range map[string]int{"tcp": 80, "udp": 53} {
				if got := outsidePort(t, proto, g.LAN1, at(ip.outside, port), local, ip.public(40)); int(got) == atoi(local) {
					kept++
				}
				got := peer(t, proto, g.LAN1, at(ip.neighbor, port), local)
				if a := got.Addr().String(); a != ip.public(41) && a != ip.public(42) || got.Port() < 50000 || got.Port() > 60000 {
					t.Errorf("the neighbor saw %s", got)
				}
			}
		}
		if kept > 2 {
			t.Errorf("%d of 8 ports were kept", kept)
		}
		pings(t, g.LAN1, ip.outside)
		together(tcp(g.LAN1, ip.isp, 80).drops(t), udp(g.LAN1, ip.isp, 53).drops(t), ping(g.LAN1, ip.isp).drops(t))
	})
	leaks.none(t)
	g.delete(t)
}

// Helpers name the address of the pool.
func TestSNATHelpers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 40)
	g := untouched(t, topo)
	servesFTP(t, g, topo.Server, 21, 2222)
	seen := dataOf(topo.Server, 21, 2222)
	g.apply(t, twoZones+`
snat: {from: lan, to: wan, addresses: [203.0.113.40, "2001:db8:113::40"], helpers: ftp}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		fetches(t, ip, topo.LAN1, at(ip.outside, 21), ftpPassive(), seen, ip.public(40), ip.outside)
		fetches(t, ip, topo.LAN1, at(ip.outside, 21), ftpActive(), seen, ip.outside, ip.public(40))
		failsFTP(t, ip, topo.LAN1, at(ip.outside, 2222), ftpActive())
	})
	leaks.none(t)
	g.delete(t)
}
