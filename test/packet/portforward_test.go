package packet

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// talk opens a connection, or sends a datagram, and gives what the server saw,
// and the client's own address and port.
func talk(proto string, h *lab.Host, remote string, opts ...lab.DialOption) (lab.Seen, netip.AddrPort, error) {
	if proto == "udp" {
		c, err := h.DialUDP(remote, opts...)
		if err != nil {
			return lab.Seen{}, netip.AddrPort{}, err
		}
		defer c.Close()
		seen, err := c.Exchange(lab.Patience, "hello")
		return seen, c.Local(), err
	}
	c, err := h.DialTCP(lab.Patience, remote, opts...)
	if err != nil {
		return lab.Seen{}, netip.AddrPort{}, err
	}
	defer c.Abort()
	return c.Seen(), c.Local(), nil
}

// lands goes to remote by tcp or udp and looks at both ends: where it was
// answered, and whom the server saw. The peer "" is the client itself, its port
// included.
func lands(t *testing.T, proto string, h *lab.Host, remote, target, peer string, opts ...lab.DialOption) {
	t.Helper()
	seen, local, err := talk(proto, h, remote, opts...)
	if err != nil {
		t.Errorf("%s to %s %s: %v", h.Name(), proto, remote, err)
		return
	}
	if got := seen.Local.String(); got != target {
		t.Errorf("%s to %s %s: answered at %s, want %s", h.Name(), proto, remote, got, target)
	}
	if peer == "" && seen.Peer != local {
		t.Errorf("%s to %s %s: the server saw %s, want the client's own %s", h.Name(), proto, remote, seen.Peer, local)
	}
	if peer != "" && seen.Peer.Addr().String() != peer {
		t.Errorf("%s to %s %s: the server saw %s, want %s", h.Name(), proto, remote, seen.Peer, peer)
	}
}

// unheard goes to all of the remotes at once, by tcp and udp, and wants
// silence: what a filter drops.
func unheard(t *testing.T, h *lab.Host, remotes ...string) {
	t.Helper()
	var group sync.WaitGroup
	for _, remote := range remotes {
		group.Go(func() { fails(t, h, remote, lab.IsTimeout) })
		group.Go(func() { failsUDP(t, h, remote, lab.IsTimeout) })
	}
	group.Wait()
}

// listens answers on ports of a host, by tcp and udp.
func listens(h *lab.Host, ports ...int) {
	for _, p := range ports {
		h.ServeTCP(fmt.Sprintf(":%d", p))
		h.ServeUDP(fmt.Sprintf(":%d", p))
	}
}

// bracketed is an address as it stands before a port, and in flow style YAML.
func bracketed(addr string) string {
	return strings.TrimSuffix(net.JoinHostPort(addr, "x"), ":x")
}

// forwards is the section with the targets of a family filled in: $lan1, $lan2,
// $dmz and $outside, behind which a port may follow. More are pairs of what to
// replace by what.
func (f family) forwards(entries string, more ...string) string {
	targets := []string{"$lan1", bracketed(f.lan1), "$lan2", bracketed(f.lan2), "$dmz", bracketed(f.dmz), "$outside", bracketed(f.outside)}
	return "port_forward:\n" + strings.NewReplacer(append(targets, more...)...).Replace(entries)
}

// A port, a range and a list go where the entry says, each by its own protocol
// alone, and what is next to them does not.
func TestPortForwardPorts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 8081, 8082, 90, 91, 92, 94, 95, 96, 4000, 4005, 4010, 4011, 9000, 9003, 9010, 9011, 7777)
	listens(topo.LAN2, 7778, 6500, 6502, 6503, 6504, 6507, 6510)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: kept, from: wan, protocol: tcp, ports: 80, to: "$lan1"}
  - {name: changed, from: wan, protocol: tcp, ports: 81, to: "$lan1:8081"}
  - {name: both, from: wan, protocol: [tcp, udp], ports: 82, to: "$lan1:8082"}
  - {name: list, from: wan, protocol: tcp, ports: [90, 92, 94-95], to: "$lan1"}
  - {name: range, from: wan, protocol: udp, ports: 4000-4010, to: "$lan1"}
  - {name: offset, from: wan, protocol: [tcp, udp], ports: 8000-8010, to: "$lan1:9000-9010"}
  - {name: one, from: wan, protocol: tcp, ports: 7000-7010, to: "$lan1:7777"}
  - {name: one-of-list, from: wan, protocol: udp, ports: [100, 110-112], to: "$lan2:7778"}
  - {name: holes, from: wan, protocol: tcp, ports: 6000-6010, except_ports: [6003, 6005-6006], to: "$lan2:6500-6510"}
`))
		for i, c := range []struct {
			proto    string
			port     int
			target   string
			landedAt int // 0: nothing there, the gateway itself refuses
		}{
			{"tcp", 80, ip.lan1, 80}, {"udp", 80, "", 0}, {"tcp", 79, "", 0},
			{"tcp", 81, ip.lan1, 8081}, {"udp", 81, "", 0}, {"tcp", 8081, "", 0},
			{"tcp", 82, ip.lan1, 8082}, {"udp", 82, ip.lan1, 8082},
			{"tcp", 90, ip.lan1, 90}, {"tcp", 92, ip.lan1, 92}, {"tcp", 94, ip.lan1, 94}, {"tcp", 95, ip.lan1, 95},
			{"tcp", 91, "", 0}, {"tcp", 93, "", 0}, {"tcp", 96, "", 0}, {"udp", 92, "", 0},
			{"udp", 4000, ip.lan1, 4000}, {"udp", 4005, ip.lan1, 4005}, {"udp", 4010, ip.lan1, 4010},
			{"udp", 4011, "", 0}, {"udp", 3999, "", 0}, {"tcp", 4005, "", 0},
			{"tcp", 8000, ip.lan1, 9000}, {"tcp", 8003, ip.lan1, 9003}, {"udp", 8003, ip.lan1, 9003}, {"udp", 8010, ip.lan1, 9010},
			{"tcp", 8011, "", 0}, {"udp", 7999, "", 0}, {"tcp", 9003, "", 0},
			{"tcp", 7000, ip.lan1, 7777}, {"tcp", 7004, ip.lan1, 7777}, {"tcp", 7010, ip.lan1, 7777},
			{"tcp", 7011, "", 0}, {"tcp", 6999, "", 0}, {"udp", 7004, "", 0},
			{"udp", 100, ip.lan2, 7778}, {"udp", 110, ip.lan2, 7778}, {"udp", 112, ip.lan2, 7778}, {"udp", 113, "", 0}, {"udp", 101, "", 0},
			{"tcp", 6000, ip.lan2, 6500}, {"tcp", 6002, ip.lan2, 6502}, {"tcp", 6004, ip.lan2, 6504}, {"tcp", 6007, ip.lan2, 6507}, {"tcp", 6010, ip.lan2, 6510},
			{"tcp", 6003, "", 0}, {"tcp", 6005, "", 0}, {"tcp", 6006, "", 0}, {"tcp", 6011, "", 0},
		} {
			if c.landedAt != 0 {
				// Several come to one port: a source port that two of them had, one would lose.
				lands(t, c.proto, topo.Neighbor, at(ip.uplink, c.port), at(c.target, c.landedAt), "", lab.From(fmt.Sprint(":", 20000+i)))
				continue
			}
			if _, _, err := talk(c.proto, topo.Neighbor, at(ip.uplink, c.port)); !lab.IsRefused(err) {
				t.Errorf("%s port %d, which no entry forwards: %v", c.proto, c.port, err)
			}
		}
		lands(t, "tcp", topo.Server, at(ip.uplink, 80), at(ip.lan1, 80), "")
	})
	g.delete(t)
}

// Everything that nothing before it took.
func TestPortForwardAllPorts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 1, 22, 80, 443, 5000, 65535)
	listens(topo.LAN2, 8080, 9000, 9005)
	listens(topo.GW, 22)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "$lan2:8080"}
  - {name: range, from: wan, protocol: tcp, ports: 5000-5010, to: "$lan2:9000-9010"}
  - {name: rest, from: wan, protocol: [tcp, udp], ports: all, except_ports: [22, 23], to: "$lan1"}
`))
		out := topo.Neighbor
		lands(t, "tcp", out, at(ip.uplink, 80), at(ip.lan2, 8080), "")
		lands(t, "tcp", out, at(ip.uplink, 5005), at(ip.lan2, 9005), "")
		for _, port := range []int{1, 443, 65535} {
			lands(t, "tcp", out, at(ip.uplink, port), at(ip.lan1, port), "")
			lands(t, "udp", out, at(ip.uplink, port), at(ip.lan1, port), "")
		}
		lands(t, "udp", out, at(ip.uplink, 80), at(ip.lan1, 80), "")
		lands(t, "udp", out, at(ip.uplink, 5000), at(ip.lan1, 5000), "")
		lands(t, "tcp", out, at(ip.uplink, 22), at(ip.uplink, 22), "")
		fails(t, out, at(ip.uplink, 23), lab.IsRefused)
		// The gateway's own connections go out, and their answers come in.
		topo.Server.ServeTCP(at(ip.outside, 443))
		lands(t, "tcp", topo.GW, at(ip.outside, 443), at(ip.outside, 443), "")

		g.apply(t, zones+ip.forwards(`
  - {name: trap, from: wan, protocol: tcp, ports: all, to: "$lan2:9000"}
`))
		for _, port := range []int{1, 22, 80, 9000, 65535} {
			lands(t, "tcp", out, at(ip.uplink, port), at(ip.lan2, 9000), "")
		}
	})
	g.delete(t)
}
