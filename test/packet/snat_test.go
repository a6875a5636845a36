package packet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// twoZones are the zones of policies with a pool.
const twoZones = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
`

// public is an address on the uplink's network, for a pool.
func (f family) public(n int) string {
	if f.v6() {
		return fmt.Sprintf("2001:db8:113::%d", n)
	}
	return fmt.Sprintf("203.0.113.%d", n)
}

// inside is an address in the lan.
func (f family) inside(n int) string {
	if f.v6() {
		return fmt.Sprintf("fd00:1::%d", n)
	}
	return fmt.Sprintf("192.168.1.%d", n)
}

// pool has the gateway hold addresses on the uplink's network, in both
// families, before they are anybody's pool. The gateway itself prefers its
// other ones.
func pool(t *testing.T, topo *lab.Topology, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		topo.GW.Addr("eth0", families()[0].public(n)+"/32")
		topo.GW.Run(t, "ip", "address", "add", families()[1].public(n)+"/128", "dev", "eth0", "nodad", "preferred_lft", "0")
	}
}

// hold gives a host's eth0 addresses.
func hold(h *lab.Host, address func(int) string, first, last int) {
	for n := first; n <= last; n++ {
		bits := 32
		if strings.Contains(address(n), ":") {
			bits = 128
		}
		h.Addr("eth0", fmt.Sprintf("%s/%d", address(n), bits))
	}
}

// server is an address of the server's.
func (f family) server(n int) string { return strings.TrimSuffix(f.outside, "9") + fmt.Sprint(n) }

// peer opens a connection, or sends a datagram, and gives what the server saw.
// The flow stays open until the end of the test.
func peer(t *testing.T, proto string, h *lab.Host, remote, local string) netip.AddrPort {
	t.Helper()
	if proto == "udp" {
		c, err := h.DialUDP(remote, lab.From(local))
		if err == nil {
			t.Cleanup(func() { c.Close() })
			var seen lab.Seen
			if seen, err = c.Exchange(lab.Patience, "hello"); err == nil {
				return seen.Peer
			}
		}
		t.Fatalf("%s asks %s from %q: %v", h.Name(), remote, local, err)
	}
	c, err := h.DialTCP(lab.Patience, remote, lab.From(local))
	if err != nil {
		t.Fatalf("%s opens %s from %q: %v", h.Name(), remote, local, err)
	}
	t.Cleanup(func() { c.Close() })
	return c.Seen().Peer
}

// became opens a connection and gives the number of the public address that
// the server saw.
func became(t *testing.T, ip family, h *lab.Host, remote, local string) int {
	t.Helper()
	got := peer(t, "tcp", h, remote, local).Addr().String()
	for n := range 100 {
		if got == ip.public(n) {
			return n
		}
	}
	t.Fatalf("%s from %q to %s: the server saw %s", h.Name(), local, remote, got)
	return 0
}

// An entry with one address, and who gets it: the first section that matches
// translates, and what an exception excludes goes on to the next.
func TestSNATOrder(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 41)
	for _, ip := range families() {
		hold(topo.LAN1, ip.inside, 20, 20)
		hold(topo.Server, ip.server, 20, 20)
	}
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
masquerade:
  - {from: lan, to: wan}
snat:
  - name: first
    from: lan
    to: wan
    sources: [192.168.1.10-192.168.1.20, "fd00:1::10-fd00:1::20"]
    except_sources: [192.168.1.11, "fd00:1::11"]
    except_destinations: [198.51.100.20, "2001:db8:100::20"]
    addresses: [203.0.113.40, "2001:db8:113::40"]
  - {name: second, from: lan, to: wan, addresses: [203.0.113.41, "2001:db8:113::41"], protocol: udp, ports: 53, forward: false}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.public(40))
		udp(g.LAN1, ip.outside, 53).sees(t, ip.public(40))
		pings(t, g.LAN1, ip.outside)
		tcp(g.LAN1, ip.server(20), 80).sees(t, ip.uplink)
		tcp(g.LAN2, ip.outside, 80).sees(t, ip.uplink)
		// The masquerade has opened the way for what the second entry translates.
		udp(g.LAN2, ip.outside, 53).sees(t, ip.public(41))
		udp(g.LAN2, ip.outside, 123).sees(t, ip.uplink)
		if got := peer(t, "tcp", g.LAN1, at(ip.outside, 81), at(ip.inside(20), 4000)).String(); got != at(ip.public(40), 4000) {
			t.Errorf("port 4000 is seen as %s", got)
		}
		c := opens(t, g.LAN1, at(ip.outside, 25), ip.public(40))
		carries(t, c)
	})
	if e := g.entry(t, "snat second"); e.NewFlows != 2 {
		t.Errorf("%d flows of the second entry, want 2", e.NewFlows)
	}
	leaks.none(t)
	g.delete(t)
}

// What an entry translates and does not open is judged by the rules.
func TestSNATNoForward(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 40)
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
snat: {from: lan, to: wan, addresses: [203.0.113.40, "2001:db8:113::40"], forward: false}
forward:
  rules: [{from: lan, to: wan, protocol: tcp, ports: 80, action: accept}]
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.public(40))
		tcp(g.LAN1, ip.outside, 81).dropped(t)
	})
	leaks.none(t)
	g.delete(t)
}

// A pool of one family leaves the other to other entries.
func TestSNATOneFamily(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 40)
	answering(topo.Server)
	g := applied(t, topo, twoZones+"snat: {from: lan, to: wan, addresses: 203.0.113.40}\n")
	leaks := g.leaks(t)
	v4, v6 := families()[0], families()[1]
	tcp(g.LAN1, v4.outside, 80).sees(t, v4.public(40))
	tcp(g.LAN1, v6.outside, 80).dropped(t)
	leaks.none(t)
	g.delete(t)
}

// Who gets which address of a pool, by distribution, of a range and of a list.
func TestSNATDistribution(t *testing.T) {
	const hosts = 10 // 20 to 29: of a pool of three all get one address once in 20,000 times
	ranged, list := `[203.0.113.40-203.0.113.42, "2001:db8:113::40-2001:db8:113::42"]`, `[203.0.113.44, 203.0.113.40, 203.0.113.47, "2001:db8:113::44", "2001:db8:113::40", "2001:db8:113::47"]`
	persistent := func(t *testing.T, g *gateway, ip family) map[int]bool {
		used := map[int]bool{}
		for n := range hosts {
			local := ip.inside(20 + n)
			first := became(t, ip, g.LAN1, at(ip.outside, 80), local)
			for _, port := range []int{80, 81, 25} {
				if again := became(t, ip, g.LAN1, at(ip.outside, port), local); again != first {
					t.Errorf("%s became %d, then %d", local, first, again)
				}
			}
			used[first] = true
		}
		if len(used) < 2 {
			t.Errorf("%d hosts share the addresses %v", hosts, used)
		}
		return used
	}
	spread := func(t *testing.T, g *gateway, ip family) map[int]bool {
		used := map[int]bool{}
		for n := range hosts {
			used[became(t, ip, g.LAN1, at(ip.server(20+n), 80), "")] = true
		}
		if len(used) < 2 {
			t.Errorf("one host has the addresses %v alone", used)
		}
		return used
	}
	inTurn := func(order ...int) func(t *testing.T, g *gateway, ip family) map[int]bool {
		return func(t *testing.T, g *gateway, ip family) map[int]bool {
			used := map[int]bool{}
			for i := range 2 * len(order) {
				n := became(t, ip, g.LAN1, at(ip.outside, 80), "")
				if n != order[i%len(order)] {
					t.Errorf("flow %d became %d, want %v in turn", i, n, order)
				}
				used[n] = true
			}
			return used
		}
	}
	for _, c := range []struct {
		name, addresses, more string
		pool                  []int
		check                 func(t *testing.T, g *gateway, ip family) map[int]bool
	}{
		{"persistent range", ranged, "", []int{40, 41, 42}, persistent},
		{"persistent prefix", `[203.0.113.40/30, "2001:db8:113::40/126"]`, "", []int{40, 41, 42, 43}, persistent},
		{"persistent list", list, "", []int{40, 44, 47}, persistent},
		{"persistent list with ports", list, "outside_ports: 20000-60000", []int{40, 44, 47}, persistent},
		{"kernel range", ranged, "distribution: kernel", []int{40, 41, 42}, spread},
		{"kernel list", list, "distribution: kernel", []int{40, 44, 47}, spread},
		{"round-robin range", ranged, "distribution: round-robin", []int{40, 41, 42}, inTurn(40, 41, 42)},
		{"round-robin list", list, "distribution: round-robin", []int{40, 44, 47}, inTurn(44, 40, 47)},
		{"round-robin with ports", list, "distribution: round-robin, outside_ports: 20000-60000", []int{40, 44, 47}, inTurn(44, 40, 47)},
		{"round-robin with a limit", list, "distribution: round-robin, max_connections: {per_host: 100}", []int{40, 44, 47}, inTurn(44, 40, 47)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			pool(t, topo, 40, 47)
			for _, ip := range families() {
				hold(topo.LAN1, ip.inside, 20, 20+hosts-1)
				hold(topo.Server, ip.server, 20, 20+hosts-1)
			}
			answering(topo.Server)
			more := c.more
			if more != "" {
				more = ", " + more
			}
			g := applied(t, topo, twoZones+"snat: [{from: lan, to: wan, addresses: "+c.addresses+more+"}]\n")
			leaks := g.leaks(t)
			each(t, func(t *testing.T, ip family) {
				used := c.check(t, g, ip)
				for n := range used {
					if !strings.Contains(fmt.Sprint(c.pool), fmt.Sprint(n)) {
						t.Errorf("%d is not in the pool %v", n, c.pool)
					}
				}
				pings(t, g.LAN1, ip.outside)
				pings(t, g.LAN2, ip.outside)
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}

// What is not translated does not leave, whatever it is.
func TestSNATStopsLeaks(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 43)
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
snat: {from: lan, to: wan, addresses: [203.0.113.40, 203.0.113.42, "2001:db8:113::40", "2001:db8:113::42"]}
forward: {default: accept}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		pings(t, g.LAN1, ip.outside) // so that everybody knows everybody
		before := g.entry(t, "snat lan-wan").LeaksStopped
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 4000, DstPort: 80, Flags: lab.RST}.Bytes())
		g.Settle()
		if got := g.entry(t, "snat lan-wan").LeaksStopped - before; got != 1 {
			t.Errorf("a lone RST: %d leaks stopped, want 1", got)
		}
		for _, packet := range strays(ip) {
			g.LAN1.SendPacket("eth0", packet)
		}
		g.Settle()
	})
	leaks.none(t)
	g.delete(t)
}
