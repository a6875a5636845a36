package packet

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/test/lab"
)

// nowhere is a source that the gateway routes out of the uplink.
func (f family) nowhere() string {
	if f.v6() {
		return "fd00:55::9"
	}
	return "10.55.0.9"
}

// forged is a datagram from an address that the sender need not have.
func forged(src, dst string, port uint16) []byte {
	return lab.UDP{Header: lab.Between(src, dst), SrcPort: 4000, DstPort: port, Payload: []byte("forged")}.Bytes()
}

// heard says whether a server has heard from an address so far.
func heard(s *lab.Server, src string) bool {
	return slices.ContainsFunc(s.Peers(), func(p netip.AddrPort) bool { return p.Addr().WithZone("") == netip.MustParseAddr(src) })
}

// What arrives from a source that the host would not route back there is
// dropped on the way in and through, before conntrack knows of it, and counted.
func TestAntispoof(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	own := topo.GW.ServeUDP(":99")
	// Nothing but antispoof is in the way.
	g := applied(t, topo, zones+`
masquerade:
  - {from: [lan, dmz], to: wan}
forward:
  default: accept
`)
	want := uint64(0)
	each(t, func(t *testing.T, ip family) {
		sources := []string{ip.nowhere(), ip.outside, ip.dmz, ip.gwDMZ, ip.gwLAN}
		onward := topo.GW.Capture("eth2", lab.All(lab.Outgoing, lab.IsUDP))
		outward := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.IsUDP))
		for _, src := range sources {
			for _, dst := range []string{ip.outside, ip.dmz, ip.gwLAN} {
				topo.LAN1.SendPacket("eth0", forged(src, dst, 99))
				want++
			}
		}
		// From an address of the zone, though of another host: that is the switch's to see.
		topo.LAN1.SendPacket("eth0", forged(ip.lan2, ip.gwLAN, 99))
		onward.Sync()
		outward.Sync()
		if onward.Count()+outward.Count() > 0 {
			t.Errorf("forged packets passed: %v %v", onward, outward)
		}
		asks(t, topo.LAN1, at(ip.gwLAN, 99), ip.lan1) // the server has heard all that came before
		for _, src := range sources {
			if heard(own, src) {
				t.Errorf("the gateway took a packet from %s", src)
			}
			if flows := g.GW.Run(t, "conntrack", "-L", "-f", strings.ToLower(ip.name), "-p", "udp", "-s", src); strings.Contains(flows, "sport=4000") {
				t.Errorf("conntrack knows %s:\n%s", src, flows)
			}
		}
		if !heard(own, ip.lan2) {
			t.Error("the gateway has not heard from lan2's address")
		}
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		// The outside has no networks, so nobody looks there.
		topo.ISP.SendPacket("eth0", forged(ip.lan2, ip.uplink, 99))
	})
	if e := g.entry(t, "antispoof lan"); e.RefusedPackets != want {
		t.Errorf("%d packets counted, want %d", e.RefusedPackets, want)
	}
	if out := g.ipmasq(t, 0, "status"); !strings.Contains(out, "antispoof lan") {
		t.Errorf("status does not show it:\n%s", out)
	}
	g.delete(t)
}

// Which zones look, and at what.
func TestAntispoofWhere(t *testing.T) {
	for _, c := range []struct {
		name, zones                          string
		nowhereByLAN, insideByWAN, insideLAN bool // what gets through
	}{
		{"networks", `lan: {interfaces: eth1, networks: [192.168.1.0/24, "fd00:1::/64"]}`, false, true, true},
		{"switched off", `lan: {interfaces: eth1, networks: [192.168.1.0/24, "fd00:1::/64"], antispoof: false}`, true, true, true},
		{"no networks", `lan: {interfaces: eth1}`, true, true, true},
		{"switched on", `lan: {interfaces: eth1, antispoof: true}`, false, true, true},
		{"switched on by a pattern", `lan: {interfaces: "eth*", antispoof: true}`, false, false, true},
		{"both sides", `{lan: {interfaces: eth1, antispoof: true}, wan: {interfaces: eth0, antispoof: true}}`, false, false, true},
		{"any interface", `lan: {networks: [192.168.1.0/24, "fd00:1::/64"]}`, true, false, true},
		{"one of two zones of an interface", `{lan: {interfaces: eth1, networks: [192.168.1.0/24, "fd00:1::/64"]},
  odd: {interfaces: eth1, networks: [10.0.0.0/8, "fd00:55::/32"], antispoof: false}}`, true, true, true},
		{"a wider zone", `{lan: {interfaces: eth1, networks: [192.168.1.0/24, "fd00:1::/64"]}, rest: {interfaces: eth1}}`, false, true, true},
		{"a narrower interface", `{all: {interfaces: "eth*", antispoof: true}, lan: {interfaces: eth1}}`, true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			lan, wan := topo.GW.ServeUDP(":98"), topo.GW.ServeUDP(":99")
			text := c.zones
			if !strings.HasPrefix(text, "{") {
				text = "{" + text + "}"
			}
			g := applied(t, topo, "zones: "+text+"\n")
			each(t, func(t *testing.T, ip family) {
				topo.LAN1.SendPacket("eth0", forged(ip.nowhere(), ip.gwLAN, 98), forged(ip.lan2, ip.gwLAN, 98))
				topo.ISP.SendPacket("eth0", forged(ip.lan2, ip.uplink, 99), forged(ip.outside, ip.uplink, 99))
				topo.Settle()
				// A server has heard all that came before its own answer.
				asks(t, topo.LAN1, at(ip.gwLAN, 98), ip.lan1)
				asks(t, topo.ISP, at(ip.uplink, 99), ip.isp)
				for _, x := range []struct {
					what   string
					server *lab.Server
					src    string
					want   bool
				}{
					{"an outside source from the lan", lan, ip.nowhere(), c.nowhereByLAN},
					{"an inside source from the lan", lan, ip.lan2, c.insideLAN},
					{"an inside source from the uplink", wan, ip.lan2, c.insideByWAN},
					{"an outside source from the uplink", wan, ip.outside, true},
				} {
					if got := heard(x.server, x.src); got != x.want {
						t.Errorf("%s: got through: %v, want %v", x.what, got, x.want)
					}
				}
			})
			g.delete(t)
		})
	}
}

// Hosts without an address, sources of the link alone, DHCP from wherever it is
// answered, and what the gateway itself sends to a group that it is in.
func TestAntispoofSpares(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	servers := map[uint16]*lab.Server{}
	for _, port := range []uint16{67, 68, 99} {
		servers[port] = topo.GW.ServeUDP(at("", int(port)))
	}
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
`)
	cases := []struct {
		src, dst   string
		from, port uint16
		passes     bool
	}{
		{"0.0.0.0", "255.255.255.255", 68, 67, true},    // DISCOVER
		{"172.31.0.1", "255.255.255.255", 67, 68, true}, // an OFFER from a server elsewhere
		{"172.31.0.2", lab.GatewayLAN, 67, 67, true},    // a relay
		{"172.31.0.3", lab.GatewayLAN, 67, 99, false},   // no DHCP
		{"172.31.0.4", lab.GatewayLAN, 4000, 67, false}, // nor is that
		{"169.254.7.7", lab.GatewayLAN, 4000, 99, true}, // RFC 3927
		{"fe80::7:7", lab.GatewayLANv6, 4000, 99, true}, // with no scope to tell it from others
		{"fd00:55::7", lab.GatewayLANv6, 4000, 99, false},
	}
	for _, c := range cases {
		topo.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(c.src, c.dst), SrcPort: c.from, DstPort: c.port, Payload: []byte("x")}.Bytes())
	}
	topo.Settle()
	each(t, func(t *testing.T, ip family) {
		for port := range servers {
			asks(t, topo.LAN1, at(ip.gwLAN, int(port)), ip.lan1)
		}
	})
	for _, c := range cases {
		if got := heard(servers[c.port], c.src); got != c.passes {
			t.Errorf("from %s to port %d: got through: %v", c.src, c.port, got)
		}
	}
	g.delete(t)
}

// What the gateway sends to a group that it is in itself comes back by the
// interface that it left by, from an address that is the host's own.
func TestAntispoofOwnMulticast(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
`)
	for _, c := range []struct{ network, group string }{{"udp4", "239.1.2.3"}, {"udp6", "ff05::1:3"}} {
		err := topo.GW.Do(func() error {
			eth1, err := net.InterfaceByName("eth1")
			if err != nil {
				return err
			}
			to := &net.UDPAddr{IP: net.ParseIP(c.group), Port: 5353}
			member, err := net.ListenMulticastUDP(c.network, eth1, to)
			if err != nil {
				return err
			}
			defer member.Close()
			sender, err := net.ListenUDP(c.network, nil)
			if err != nil {
				return err
			}
			defer sender.Close()
			raw, err := sender.SyscallConn()
			if err != nil {
				return err
			}
			var option error
			err = raw.Control(func(fd uintptr) {
				if c.network == "udp6" {
					option = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, eth1.Index)
				} else {
					option = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(eth1.Index)})
				}
			})
			if err := errors.Join(err, option); err != nil {
				return err
			}
			if _, err := sender.WriteToUDP([]byte("to all"), to); err != nil {
				return err
			}
			if err := member.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
				return err
			}
			_, _, err = member.ReadFromUDP(make([]byte, 100))
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", c.group, err)
		}
	}
}

// Hosts behind another router of the lan are routed back by the lan.
func TestAntispoofBehindAnotherRouter(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, 10.9.0.0/16, "fd00:1::/64", "fd00:9::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`)
	far := map[string][2]string{"IPv4": {"10.9.0.5", "/32"}, "IPv6": {"fd00:9::5", "/128"}}
	each(t, func(t *testing.T, ip family) {
		host := far[ip.name]
		topo.LAN2.Addr("lo", host[0]+host[1])
		from := lab.From(at(host[0], 0))
		fails(t, topo.LAN2, at(ip.outside, 80), lab.IsTimeout, from) // no route yet
		g.GW.Route(host[0]+host[1], ip.lan2)
		opens(t, topo.LAN2, at(ip.outside, 80), ip.uplink, from)
	})
	g.delete(t)
}

// What comes in by one uplink and is routed back by another has forged
// nothing; an inside source has.
func TestAntispoofUplinks(t *testing.T) {
	t.Parallel()
	for name, symmetric := range map[string]string{"plain": "", "symmetric": viaISP2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.LAN1, topo.Server)
			own := topo.GW.ServeUDP(":99")
			every := `, networks: [0.0.0.0/0, "::/0"]`
			g := applied(t, topo, symmetricZones(every, every+symmetric))
			each(t, func(t *testing.T, ip family) {
				topo.ISP2.SendPacket("eth0", forged(ip.outside, ip.uplink2, 99), forged(ip.lan1, ip.uplink2, 99))
				topo.Settle()
				asks(t, topo.ISP2, at(ip.uplink2, 99), ip.isp2)
				if !heard(own, ip.outside) {
					t.Error("the outside is taken for forged on the second uplink")
				}
				if heard(own, ip.lan1) {
					t.Error("the inside was let in from the second uplink")
				}
				if symmetric != "" {
					opens(t, g.Server, at(ip.uplink2, 81), ip.outside)
				}
				opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
			})
			if n := g.entry(t, "antispoof wan2").RefusedPackets; n != 2 {
				t.Errorf("%d packets counted, want 2", n)
			}
			g.delete(t)
		})
	}
}

// Frames that br_netfilter shows to the rules arrive on the bridge.
func TestAntispoofBridge(t *testing.T) {
	lab.Require(t, lab.BrNetfilter())
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.BridgedLAN(), lab.Interfaces(lab.Names{LAN: "br0"}), lab.WithoutDMZ(), lab.WithoutGuest())
			topo.GW.Sysctl("net.bridge.bridge-nf-call-iptables", call)
			topo.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", call)
			own := topo.GW.ServeUDP(":99")
			g := applied(t, topo, `
zones:
  lan: {interfaces: [br0], networks: [192.168.1.0/24, "fd00:1::/64"]}
forward: {rules: [{from: lan, to: lan, action: accept}]}
`)
			answering(topo.LAN2)
			each(t, func(t *testing.T, ip family) {
				topo.LAN1.SendPacket("eth0", forged(ip.nowhere(), ip.gwLAN, 99))
				topo.Settle()
				asks(t, topo.LAN1, at(ip.gwLAN, 99), ip.lan1)
				if heard(own, ip.nowhere()) {
					t.Error("a forged source came through")
				}
				asks(t, topo.LAN1, at(ip.lan2, 53), ip.lan1)
			})
			g.delete(t)
		})
	}
}
