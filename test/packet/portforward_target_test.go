package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The target sees the client as it is, unless masquerade says otherwise: then
// a target whose default route leads elsewhere can answer too.
func TestPortForwardMasquerade(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 90)
	listens(topo.LAN2, 80, 90)
	topo.LAN2.Route("default", lab.LAN1) // which forwards nothing
	topo.LAN2.Route("default", lab.LAN1v6)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`
  - {name: plain, from: wan, protocol: [tcp, udp], ports: 80, to: "$lan1"}
  - {name: lost, from: wan, protocol: [tcp, udp], ports: 81, to: "$lan2:80"}
  - {name: seen, from: wan, protocol: [tcp, udp], ports: 82, to: "$lan2:80", masquerade: true}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 85-95, to: "$lan2", masquerade: true}
`))
		for _, proto := range []string{"tcp", "udp"} {
			for _, out := range []*lab.Host{topo.Neighbor, topo.Server, topo.DMZ} {
				lands(t, proto, out, at(ip.uplink, 80), at(ip.lan1, 80), "")
				lands(t, proto, out, at(ip.uplink, 82), at(ip.lan2, 80), ip.gwLAN)
				lands(t, proto, out, at(ip.uplink, 90), at(ip.lan2, 90), ip.gwLAN)
			}
			lands(t, proto, topo.GW, at(ip.uplink, 82), at(ip.lan2, 80), ip.gwLAN)
			lands(t, proto, topo.LAN1, at(ip.uplink, 82), at(ip.lan2, 80), ip.gwLAN)
		}
		unheard(t, topo.Neighbor, at(ip.uplink, 81))
		unheard(t, topo.DMZ, at(ip.uplink, 81))
	})
	g.delete(t)
}

// Of two entries for the same port only one hides the client. The two must lead
// to different ports: see TestPortForwardConflict for what is refused.
func TestPortForwardMasqueradeOfOneEntry(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 81)
	second := map[string]string{"IPv4": "203.0.113.5", "IPv6": "2001:db8:113::5"}
	topo.GW.Addr("eth0", second["IPv4"]+"/24", second["IPv6"]+"/64")
	each(t, func(t *testing.T, ip family) {
		for name, entries := range map[string]string{
			"by source": `
  - {name: hidden, from: wan, sources: "NEIGHBOR", protocol: [tcp, udp], ports: 80, to: "$lan1:81", masquerade: true}
  - {name: plain, from: wan, protocol: [tcp, udp], ports: 80, to: "$lan1"}
`,
			"by address": `
  - {name: hidden, from: wan, address: "SECOND", protocol: [tcp, udp], ports: 80, to: "$lan1:81", masquerade: true}
  - {name: plain, from: wan, address: "UPLINK", protocol: [tcp, udp], ports: 80, to: "$lan1"}
`,
		} {
			t.Run(name, func(t *testing.T) {
				g.apply(t, zones+ip.forwards(entries, "NEIGHBOR", ip.neighbor, "SECOND", second[ip.name], "UPLINK", ip.uplink))
				for _, proto := range []string{"tcp", "udp"} {
					lands(t, proto, topo.Neighbor, at(second[ip.name], 80), at(ip.lan1, 81), ip.gwLAN)
					lands(t, proto, topo.Server, at(ip.uplink, 80), at(ip.lan1, 80), "")
				}
			})
		}
	})
	g.delete(t)
}

// deep adds a network behind lan1, which routes, with a server and a narrow
// link on the way. The gateway knows the route.
func deep(t *testing.T, topo *lab.Topology) (server *lab.Host, addrs map[string]string) {
	server = topo.Host("deep")
	topo.Link(topo.LAN1, "eth1", server, "eth0")
	topo.LAN1.Addr("eth1", "10.5.0.1/24", "fd00:5::1/64")
	server.Addr("eth0", "10.5.0.10/24", "fd00:5::10/64")
	// The server sends no more than the link takes, since nobody would complain
	// about what a veth drops on arrival, and says that it takes more.
	server.Run(t, "ip", "route", "add", "default", "via", "10.5.0.1", "mtu", "1300", "advmss", "1460")
	server.Run(t, "ip", "-6", "route", "add", "default", "via", "fd00:5::1", "mtu", "1300", "advmss", "1440")
	topo.LAN1.SetMTU("eth1", 1300)
	topo.LAN1.Sysctl("net.ipv4.ip_forward", "1")
	topo.LAN1.Sysctl("net.ipv6.conf.all.forwarding", "1")
	for _, h := range []*lab.Host{topo.GW, topo.LAN2} {
		h.Route("10.5.0.0/24", lab.LAN1)
		h.Route("fd00:5::/64", lab.LAN1v6)
	}
	return server, map[string]string{"IPv4": "10.5.0.10", "IPv6": "fd00:5::10"}
}

// The target may be behind a router of the inside. What that router says about
// a packet reaches the client as if the gateway had said it.
func TestPortForwardBehindInsideRouter(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	server, addrs := deep(t, topo)
	g := untouched(t, topo)
	listens(server, 80)
	topo.Neighbor.NoOffload("eth0")
	topo.DMZ.NoOffload("eth0")
	each(t, func(t *testing.T, ip family) {
		target := addrs[ip.name]
		g.apply(t, strings.NewReplacer("192.168.1.0/24", "192.168.1.0/24, 10.5.0.0/24", `"fd00:1::/64"`, `"fd00:1::/64", "fd00:5::/64"`).Replace(zones)+
			"port_forward: [{from: wan, protocol: [tcp, udp], ports: 8080, to: \""+at(target, 80)+"\"}]\n")
		remote := at(ip.uplink, 8080)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, remote, at(target, 80), "")
			lands(t, proto, topo.DMZ, remote, at(target, 80), "")
			lands(t, proto, topo.GW, remote, at(target, 80), "")
			// By the interface that it came in by: the answer must come this way.
			lands(t, proto, topo.LAN2, remote, at(target, 80), ip.gwLAN)
			lands(t, proto, topo.LAN2, at(target, 80), at(target, 80), "") // not through the gateway at all
		}
		// The narrow link is behind the translation: its router's complaint
		// must reach the client as one about the address that it knows.
		for _, client := range []*lab.Host{topo.Neighbor, topo.DMZ} {
			if c := opens(t, client, remote, client.Addrs("eth0")[map[bool]int{false: 0, true: 1}[ip.v6()]].Addr().String()); c != nil {
				if err := c.Echo(lab.Patience, strings.Repeat("x", 100_000)); err != nil {
					t.Errorf("a target behind a narrow link, from %s: %v", client.Name(), err)
				}
			}
		}
		// A hop limit that ends inside.
		said := topo.Neighbor.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP))
		if _, _, err := talk("udp", topo.Neighbor, remote, lab.TTL(2)); !lab.IsUnreachable(err) {
			t.Errorf("a datagram that expires inside: %v", err)
		}
		complaint(t, said, ip.uplink, remote)
	})
	g.delete(t)
}

// complaint looks at an ICMP error that a client got: who sent it, and about
// which destination it is.
func complaint(t *testing.T, said *lab.Capture, from, about string) {
	t.Helper()
	packets, err := said.Wait(1, lab.Patience)
	if err != nil {
		t.Errorf("no ICMP error about %s: %v", about, err)
		return
	}
	said.Stop()
	p := packets[0]
	if err := p.Checksum(); err != nil {
		t.Errorf("ICMP error about %s: %v", about, err)
	}
	inner, err := p.Inner()
	if got := p.Src.String(); got != from || err != nil || inner.To().String() != about {
		t.Errorf("ICMP error from %s about %s (%v), want one from %s about %s", got, inner.To(), err, from, about)
	}
}

// A target outside: the flow turns round at the gateway, which must stay on its
// way back.
func TestPortForwardToOutside(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+"masquerade: [{from: [lan, dmz], to: wan}]\n"+ip.forwards(`
  - {name: relay, from: wan, protocol: [tcp, udp], ports: 8080, to: "$outside:80"}
`))
		for _, proto := range []string{"tcp", "udp"} {
			for _, h := range []*lab.Host{topo.Neighbor, topo.ISP, topo.LAN1, topo.DMZ, topo.GW} {
				lands(t, proto, h, at(ip.uplink, 8080), at(ip.outside, 80), ip.uplink)
			}
			lands(t, proto, topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.uplink)
			lands(t, proto, topo.Neighbor, at(ip.outside, 80), at(ip.outside, 80), "")
		}
		// It is no way to anywhere else.
		topo.Neighbor.Route(ip.outside, ip.uplink)
		unheard(t, topo.Neighbor, at(ip.outside, 80), at(ip.outside, 8080))
		topo.Neighbor.DelRoute(ip.outside, ip.uplink)
	})
	g.delete(t)
}
