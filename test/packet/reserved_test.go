package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An inside host does not take an outside port that is reserved for a service
// of the gateway; another one it keeps.
func TestReservedPorts(t *testing.T) {
	const (
		masquerade = "masquerade: {from: lan, to: wan"
		snat       = `snat: {from: lan, to: wan, addresses: [203.0.113.40, 203.0.113.42, "2001:db8:113::40"]`
		reserved   = "gateway: {reserved_ports: [500, 4500, 51820-51830]}\n"
		input      = `
input:
  default: accept
  rules:
    - {from: wan, protocol: udp, ports: [500, 4500, 51820-51830], action: accept}
    - {name: shut, from: wan, protocol: udp, ports: 4000, action: drop}
`
	)
	for _, c := range []struct {
		name, policy   string
		kept, replaced []string
		low, high      int // of what they are replaced by
	}{
		{"masquerade", masquerade + "}\n" + reserved, []string{":499", ":501", ":4000", ":51819", ":51831"}, []string{":500", ":4500", ":51820", ":51830"}, 4501, 51819},
		{"snat", snat + "}\n" + reserved, []string{":499", ":501", ":4000", ":51819", ":51831"}, []string{":500", ":4500", ":51820", ":51830"}, 4501, 51819},
		{"opened by input", masquerade + "}\n" + input, []string{":499", ":4000", ":51831"}, []string{":500", ":4500", ":51820"}, 4501, 51819},
		{"none", masquerade + "}\n" + input + "gateway: {reserved_ports: []}\n", []string{":500", ":4500", ":51820"}, nil, 0, 0},
		{"within outside_ports", snat + ", outside_ports: 51700-52000}\n" + reserved, []string{":51800", ":51831", ":52000"}, []string{":51820", ":40000"}, 51831, 52000},
		{"random", masquerade + ", port_selection: fully-random}\n" + reserved, nil, []string{":500", ":4000", ":51820", ":51831"}, 4501, 51819},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			pool(t, topo, 40, 42)
			answering(topo.Server)
			g := applied(t, topo, twoZones+c.policy)
			leaks := g.leaks(t)
			each(t, func(t *testing.T, ip family) {
				for _, proto := range []string{"tcp", "udp"} {
					remote := at(ip.outside, map[string]int{"tcp": 80, "udp": 53}[proto])
					for _, local := range c.kept {
						if got := int(peer(t, proto, g.LAN1, remote, local).Port()); got != atoi(local) {
							t.Errorf("%s from %s is seen from %d", proto, local, got)
						}
					}
					for _, local := range c.replaced {
						if got := int(peer(t, proto, g.LAN1, remote, local).Port()); got < c.low || got > c.high {
							t.Errorf("%s from %s is seen from %d, want %d to %d", proto, local, got, c.low, c.high)
						}
					}
					// What is taken is replaced by no reserved port either.
					for _, local := range c.kept {
						got := int(peer(t, proto, g.LAN2, remote, local).Port())
						if c.replaced != nil && (got == 500 || got == 4500 || got >= 51820 && got <= 51830) {
							t.Errorf("%s from %s of the second host is seen from %d", proto, local, got)
						}
					}
				}
				pings(t, g.LAN1, ip.outside)
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}
