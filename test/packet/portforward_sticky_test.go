package packet

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A client keeps its target, whatever port it comes from, and through applies
// and deletes: its address tells the target.
func TestPortForwardSticky(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	sticky := g.sticky
	for _, h := range []*lab.Host{topo.LAN1, topo.LAN2, topo.DMZ} {
		listens(h, 80)
	}
	each(t, func(t *testing.T, ip family) {
		var clients []string
		for i := range 24 {
			addr, length := fmt.Sprintf("203.0.113.%d", 100+i), "/24"
			if ip.v6() {
				addr, length = fmt.Sprintf("2001:db8:113::%x", 100+i), "/64"
			}
			topo.Neighbor.Addr("eth0", addr+length)
			clients = append(clients, addr)
		}
		web := `  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: ["$lan1:80", "$lan2:80", "$dmz:80"], sticky: true}` + "\n"
		remote, targets := at(ip.uplink, 8080), []string{at(ip.lan1, 80), at(ip.lan2, 80), at(ip.dmz, 80)}
		g.apply(t, zones+ip.forwards(web))
		for range 20 {
			lands(t, "tcp", topo.Server, remote, targets[sticky(ip.outside, 3)], "")
		}
		met := map[string]int{}
		all := func(t *testing.T, targets []string) {
			t.Helper()
			for _, client := range clients {
				target := targets[sticky(client, len(targets))]
				for _, proto := range []string{"tcp", "udp"} {
					lands(t, proto, topo.Neighbor, remote, target, client, lab.From(client))
				}
				met[target]++
			}
		}
		all(t, targets)
		for _, target := range targets {
			if met[target] < 3 {
				t.Errorf("of 24 clients %d get %s", met[target], target)
			}
		}
		g.apply(t, zones+ip.forwards(web+`  - {name: more, from: wan, protocol: tcp, ports: 81, to: "$lan1"}`+"\n"))
		all(t, targets)
		g.delete(t)
		g.apply(t, zones+ip.forwards(web))
		all(t, targets)
		// Another number of targets tells them anew; whoever is at one that stays
		// stays.
		var stay, cut []*lab.Conn
		for _, client := range clients {
			c := opens(t, topo.Neighbor, remote, client, lab.From(client))
			if sticky(client, 3) == 2 {
				cut = append(cut, c)
			} else {
				stay = append(stay, c)
			}
		}
		g.apply(t, zones+ip.forwards(strings.Replace(web, `, "$dmz:80"`, "", 1)))
		all(t, targets[:2])
		for _, c := range stay {
			carries(t, c)
			_ = c.Abort()
		}
		for _, c := range cut {
			if c.Echo(lab.Silence, "there?") == nil {
				t.Errorf("%s is still at a target that is gone", c.Local())
			}
			_ = c.Abort()
		}
	})
	g.delete(t)
}

// sticky gives which of n targets a client's address leads to: by Jenkins' hash,
// but for IPv6 with iptables, whose match by that hash is for IPv4.
func (g *gateway) sticky(client string, n int) int {
	switch {
	case g.variant == "":
		return jenkins(client, 1, n)
	case netip.MustParseAddr(client).Is4():
		return jenkins(client, 0x69706d71, n)
	}
	key := netip.MustParseAddr(client).As16()
	h := uint32(0x69706d71)
	for i := 0; i < len(key); i += 4 {
		h = h*0x9e3779b1 ^ binary.BigEndian.Uint32(key[i:])
	}
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return int((h ^ h>>16) % uint32(n))
}

// jenkins chooses one of n by Jenkins' hash, scaled, as jhash and
// reciprocal_scale of the kernel do it.
func jenkins(client string, seed uint32, n int) int {
	key := netip.MustParseAddr(client).AsSlice()
	word := func(i int) uint32 {
		if 4*i >= len(key) {
			return 0
		}
		return uint32(key[4*i]) | uint32(key[4*i+1])<<8 | uint32(key[4*i+2])<<16 | uint32(key[4*i+3])<<24
	}
	a := 0xdeadbeef + uint32(len(key)) + seed
	b, c := a, a
	i := 0
	if len(key) > 12 {
		a, b, c = a+word(0), b+word(1), c+word(2)
		for _, turn := range []int{4, 6, 8, 16, 19, 4} {
			a = (a - c) ^ bits.RotateLeft32(c, turn)
			c += b
			a, b, c = b, c, a
		}
		i = 3
	}
	a, b, c = a+word(i), b+word(i+1), c+word(i+2)
	for _, turn := range []int{14, 11, 25, 16, 4, 14, 24} {
		c = (c ^ b) - bits.RotateLeft32(b, turn)
		a, b, c = b, c, a
	}
	// The last turn ended on c, which has moved to b.
	return int(uint64(b) * uint64(n) >> 32)
}
