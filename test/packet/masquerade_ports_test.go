package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// outsidePort opens a connection or sends a datagram from a port of a host's
// own, and gives the port that the server saw.
func outsidePort(t *testing.T, proto string, h *lab.Host, remote, local, peer string) uint16 {
	t.Helper()
	var seen lab.Seen
	if proto == "udp" {
		c, err := h.DialUDP(remote, lab.From(local))
		if err == nil {
			t.Cleanup(func() { c.Close() })
			seen, err = c.Exchange(lab.Patience, "hello")
		}
		if err != nil {
			t.Errorf("%s asks %s from %s: %v", h.Name(), remote, local, err)
			return 0
		}
	} else if c := opens(t, h, remote, peer, lab.From(local)); c != nil {
		seen = c.Seen()
	} else {
		return 0
	}
	if seen.Peer.Addr().String() != peer {
		t.Errorf("%s from %s to %s: the server saw %s, want %s", h.Name(), local, remote, seen.Peer, peer)
	}
	return seen.Peer.Port()
}

// A port stays what it is unless somebody has it; random ones do not. A range
// holds for what has ports.
func TestMasqueradePorts(t *testing.T) {
	const zones = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
`
	inRange := func(t *testing.T, what string, port uint16) {
		t.Helper()
		if port < 50000 || port > 50099 {
			t.Errorf("%s left from port %d, want 50000 to 50099", what, port)
		}
	}
	for _, c := range []struct {
		name, entry string
		check       func(t *testing.T, g *gateway, ip family, proto, remote string)
	}{
		{"preserve", `{from: lan, to: wan}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			if port := outsidePort(t, proto, g.LAN1, remote, ":4000", ip.uplink); port != 4000 {
				t.Errorf("port 4000 became %d", port)
			}
			if port := outsidePort(t, proto, g.LAN1, remote, ":4001", ip.uplink); port != 4001 {
				t.Errorf("port 4001 became %d", port)
			}
			// The second host with that port gets another one.
			if port := outsidePort(t, proto, g.LAN2, remote, ":4000", ip.uplink); port == 4000 || port == 0 {
				t.Errorf("port 4000 of the second host became %d", port)
			}
		}},
		{"random", `{from: lan, to: wan, port_selection: random}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			kept := 0
			for _, local := range []string{":4000", ":4001", ":4002", ":4003"} {
				if int(outsidePort(t, proto, g.LAN1, remote, local, ip.uplink)) == atoi(local) {
					kept++
				}
			}
			if kept > 1 {
				t.Errorf("%d of 4 ports were kept", kept)
			}
		}},
		{"fully-random", `{from: lan, to: wan, port_selection: fully-random}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			kept := 0
			for _, local := range []string{":4000", ":4001", ":4002", ":4003"} {
				if int(outsidePort(t, proto, g.LAN1, remote, local, ip.uplink)) == atoi(local) {
					kept++
				}
			}
			if kept > 1 {
				t.Errorf("%d of 4 ports were kept", kept)
			}
		}},
		{"range", `{from: lan, to: wan, outside_ports: 50000-50099}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			inRange(t, "port 500", outsidePort(t, proto, g.LAN1, remote, ":500", ip.uplink))
			inRange(t, "port 500 of the second host", outsidePort(t, proto, g.LAN2, remote, ":500", ip.uplink))
			inRange(t, "port 50007", outsidePort(t, proto, g.LAN1, remote, ":50007", ip.uplink))
		}},
		{"random in a range", `{from: lan, to: wan, outside_ports: 50000-50099, port_selection: fully-random}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			seen := map[uint16]bool{}
			for range 6 {
				port := outsidePort(t, proto, g.LAN1, remote, "", ip.uplink)
				inRange(t, "a port", port)
				seen[port] = true
			}
			if len(seen) < 3 {
				t.Errorf("6 flows left from the ports %v alone", seen)
			}
		}},
		{"range for one protocol", `{from: lan, to: wan, protocol: [tcp, icmp, icmpv6], outside_ports: 50000-50099}
  - {name: rest, from: lan, to: wan}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			port := outsidePort(t, proto, g.LAN1, remote, ":500", ip.uplink)
			if proto == "tcp" {
				inRange(t, "port 500", port)
			} else if port != 500 {
				t.Errorf("udp port 500 became %d", port)
			}
		}},
		{"one port", `{from: lan, to: wan, outside_ports: 50000-50000}`, func(t *testing.T, g *gateway, ip family, proto, remote string) {
			inRange(t, "port 500", outsidePort(t, proto, g.LAN1, remote, ":500", ip.uplink))
			// There is none left for a second one, and nothing of it leaves.
			if proto == "udp" {
				failsUDP(t, g.LAN2, remote, lab.IsTimeout)
			} else {
				fails(t, g.LAN2, remote, lab.IsTimeout)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server)
			g := applied(t, topo, zones+"  - "+c.entry+"\n")
			leaks := g.leaks(t)
			each(t, func(t *testing.T, ip family) {
				c.check(t, g, ip, "tcp", at(ip.outside, 80))
				c.check(t, g, ip, "udp", at(ip.outside, 53))
				pings(t, g.LAN1, ip.outside)
				pings(t, g.LAN2, ip.outside)
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}
