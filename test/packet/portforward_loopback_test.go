package packet

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// loopback is the gateway's address that only itself can connect to.
func (f family) loopback() string {
	if f.v6() {
		return "::1"
	}
	return "127.0.0.1"
}

const loopbackForwards = `
port_forward:
  - {name: web, address: 127.0.0.1, protocol: [tcp, udp], ports: 80, to: "$lan1:8080"}
  - {name: closed, address: 127.0.0.0/8, protocol: [tcp, udp], ports: 83, to: "$lan1:8083"}
  - {name: server, from: wan, address: [127.0.0.1, 203.0.113.2], protocol: tcp, ports: 84, to: "$lan1:8080"}
`

// loopbackPolicy leads the loopback address of a family to an inside host.
func (f family) loopbackPolicy() string {
	policy := zones + "masquerade: [{from: lan, to: wan}]\n" + strings.ReplaceAll(loopbackForwards, "$lan1", bracketed(f.lan1))
	if f.v6() {
		policy = strings.NewReplacer("127.0.0.0/8", `"::1"`, "127.0.0.1", `"::1"`, "203.0.113.2", `"`+f.uplink+`"`).Replace(policy)
	}
	return policy
}

// The gateway's own connections to a loopback address land on another host;
// what is not forwarded stays where it is.
func TestPortForwardLoopback(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	for _, addr := range []string{"127.0.0.1", "[::1]"} {
		topo.GW.ServeTCP(addr + ":81")
		topo.GW.ServeUDP(addr + ":81")
	}
	each(t, func(t *testing.T, ip family) {
		g.apply(t, ip.loopbackPolicy())
		self := ip.loopback()
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, g.GW, at(self, 80), at(ip.lan1, 8080), ip.gwLAN)
			lands(t, proto, g.GW, at(self, 81), at(self, 81), self)
			if !ip.v6() {
				lands(t, proto, g.GW, "127.0.0.1:80", at(ip.lan1, 8080), ip.gwLAN, lab.From("127.0.0.7"))
			}
			lands(t, proto, g.GW, at(self, 80), at(ip.lan1, 8080), ip.gwLAN, lab.From(ip.gwLAN))
		}
		lands(t, "tcp", g.GW, at(self, 84), at(ip.lan1, 8080), ip.gwLAN)
		lands(t, "tcp", g.Server, at(ip.uplink, 84), at(ip.lan1, 8080), "")
		if c := opens(t, g.GW, at(self, 80), ip.gwLAN); c != nil {
			if err := c.Echo(lab.Patience, strings.Repeat("x", 1<<20)); err != nil {
				t.Errorf("a megabyte there and back: %v", err)
			}
		}
		// Errors come back: nobody listens there, or the whole host is gone.
		fails(t, g.GW, at(self, 83), lab.IsRefused)
		failsUDP(t, g.GW, at(self, 83), lab.IsRefused)
		if !ip.v6() {
			fails(t, g.GW, "127.0.0.9:83", lab.IsRefused)
		}
		// Others reach nothing of it at the gateway's real addresses.
		fails(t, g.LAN2, at(ip.gwLAN, 80), lab.IsRefused)
		fails(t, g.Neighbor, at(ip.uplink, 80), lab.IsRefused)
	})
	g.delete(t)
	for _, ip := range families() {
		fails(t, g.GW, at(ip.loopback(), 80), lab.IsRefused)
		lands(t, "tcp", g.GW, at(ip.loopback(), 81), at(ip.loopback(), 81), ip.loopback())
	}
}

// A neighbour, on the inside or the outside, can write a loopback address into
// a packet. It reaches neither the target nor the gateway, at no time.
func TestPortForwardLoopbackCrafted(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	each(t, func(t *testing.T, ip family) {
		self, marker := ip.loopback(), []byte("crafted")
		reached := topo.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.Any(lab.DstPort(8080), lab.DstPort(80)),
			lab.Any(lab.SrcIn(ip.neighbor), lab.SrcIn(ip.lan2), lab.SrcIn(self), lab.SrcPort(999))))
		answers := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.DstPort(999)))
		inside := topo.GW.Capture("eth1", lab.All(lab.Outgoing, lab.DstPort(999)))
		craft := func(when string, answerTo netip.AddrPort) {
			for _, sender := range []struct {
				host *lab.Host
				link string // of the gateway
				addr string
			}{{topo.Neighbor, "eth0", ip.neighbor}, {topo.LAN2, "eth1", ip.lan2}} {
				for _, source := range []string{sender.addr, self, ip.lan1} {
					header := lab.Between(source, self)
					packets := [][]byte{
						lab.TCP{Header: header, SrcPort: 999, DstPort: 80, Flags: lab.SYN, Seq: 1}.Bytes(),
						lab.TCP{Header: header, SrcPort: 999, DstPort: 80, Flags: lab.ACK, Seq: 1, Ack: 1}.Bytes(),
						lab.UDP{Header: header, SrcPort: 999, DstPort: 80, Payload: marker}.Bytes(),
						lab.TCP{Header: header, SrcPort: 999, DstPort: 84, Flags: lab.SYN, Seq: 1}.Bytes(),
					}
					if answerTo.IsValid() { // as if it were an answer of the target
						packets = append(packets,
							lab.UDP{Header: header, SrcPort: 8080, DstPort: answerTo.Port(), Payload: marker}.Bytes(),
							lab.UDP{Header: header, SrcPort: 80, DstPort: answerTo.Port(), Payload: marker}.Bytes())
					}
					for _, packet := range packets {
						sender.host.SendPacketTo("eth0", topo.GW.MAC(sender.link), packet)
					}
				}
			}
			topo.Settle()
			for _, c := range []*lab.Capture{reached, answers, inside} {
				if c.Sync(); c.Count() != 0 {
					t.Errorf("%s: a crafted packet came through: %v", when, c)
				}
			}
			for _, link := range []string{"all", "eth0", "eth1"} {
				if v := topo.GW.GetSysctl("net.ipv4.conf." + link + ".route_localnet"); v != "0" {
					t.Errorf("%s: route_localnet of %s is %s", when, link, v)
				}
			}
		}
		craft("before", netip.AddrPort{})
		g.apply(t, ip.loopbackPolicy())
		craft("with the rules", netip.AddrPort{})
		c, err := topo.GW.DialUDP(at(self, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, text := range []string{"one", "two"} {
			seen, err := c.Exchange(lab.Patience, text)
			if err != nil || seen.Peer.Addr().String() != ip.gwLAN {
				t.Fatalf("the gateway's own flow: %v, %v", seen, err)
			}
			// The socket would take a crafted answer for the next one.
			craft("with a flow", c.Local())
		}
		g.ipmasq(t, 0, "delete")
		craft("after", netip.AddrPort{})
		for _, c := range []*lab.Capture{reached, answers, inside} {
			c.Stop()
		}
	})
	g.delete(t)
}
