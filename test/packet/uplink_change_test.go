package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// changing is a policy for uplinks that come and go: both ways, antispoof and
// mss_clamp with them.
func (f family) changing() string {
	return `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0, eth3, "ppp*"], antispoof: true, mss_clamp: 1200}
masquerade:
  - {from: lan, to: wan}
` + f.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: 90, to: \"$lan1:80\"}\n")
}

// reachable sees that an address is the gateway's outside one: what leaves has
// it, and the outside, the inside and the gateway reach the port forward there.
func reachable(t *testing.T, g *gateway, ip family, address string) {
	t.Helper()
	carries(t, opens(t, g.LAN2, at(ip.outside, 80), address))
	asks(t, g.LAN2, at(ip.outside, 53), address)
	pings(t, g.LAN2, ip.outside)
	for _, proto := range []string{"tcp", "udp"} {
		lands(t, proto, g.Server, at(address, 90), at(ip.lan1, 80), ip.outside)
		lands(t, proto, g.LAN2, at(address, 90), at(ip.lan1, 80), ip.gwLAN)
		lands(t, proto, g.GW, at(address, 90), at(ip.lan1, 80), "")
	}
}

// comesBack sees that a socket that goes on sending is translated to an address
// after a while, by itself.
func comesBack(t *testing.T, u *lab.UDPConn, address string) {
	t.Helper()
	until := time.Now().Add(lab.Patience)
	for seen, err := u.Exchange(lab.Silence, "again"); seen.Peer.Addr().String() != address; seen, err = u.Exchange(lab.Silence, "again") {
		if time.Now().After(until) {
			t.Errorf("a datagram of before: the server saw %v, %v; want %s", seen, err, address)
			return
		}
	}
}

// remembered opens a flow that is to outlive a change.
func remembered(t *testing.T, g *gateway, ip family, address string) *lab.UDPConn {
	t.Helper()
	u, err := g.LAN1.DialUDP(at(ip.outside, 123))
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := u.Exchange(lab.Patience, "before"); err != nil || seen.Peer.Addr().String() != address {
		t.Errorf("the server saw %v, %v", seen, err)
	}
	return u
}

// at90 is who is reached through the port forward: TCP and UDP 80 of lan1.
func at90(topo *lab.Topology) {
	listens(topo.LAN1, 80)
	answering(topo.Server)
}

// The uplink is renumbered into another network: everything follows, and the
// address of before is nobody's.
func TestUplinkRenumbered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, ip family) {
		topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
		at90(topo)
		g := applied(t, topo, ip.changing())
		leaks := g.leaks(t)
		address, next, bits, old := "100.64.7.2", "100.64.7.1", "/24", "/24"
		if ip.v6() {
			address, next, bits, old = "2001:db8:64::2", "2001:db8:64::1", "/64", "/64"
		}
		reachable(t, g, ip, ip.uplink)
		u := remembered(t, g, ip, ip.uplink)
		topo.ISP.Addr("eth0", next+bits)
		topo.GW.DelAddr("eth0", ip.uplink+old)
		topo.GW.Addr("eth0", address+bits)
		topo.GW.Route("default", next)
		reachable(t, g, ip, address)
		comesBack(t, u, address)
		if g.variant == "" {
			leaks.none(t)
		} // iptables cannot look behind nat, for a moment without an address (docs/backends.md)
		g.ipmasq(t, 0, "status") // no drift
		g.delete(t)
	})
}

// The default route moves to another uplink of the zone and back: what is new
// leaves from the new uplink's address, and the port forward is there too.
func TestUplinkMoves(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, ip family) {
		topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
		at90(topo)
		g := applied(t, topo, ip.changing())
		leaks := g.leaks(t, "eth0", "eth3")
		first, second := lab.ISP, lab.ISP2
		if ip.v6() {
			first, second = lab.ISPv6, lab.ISP2v6
		}
		reachable(t, g, ip, ip.uplink)
		u := remembered(t, g, ip, ip.uplink)
		topo.GW.DelRoute("default", first)
		topo.GW.Route("default", second)
		reachable(t, g, ip, ip.uplink2)
		comesBack(t, u, ip.uplink2)
		topo.GW.DelRoute("default", second)
		topo.GW.Route("default", first)
		reachable(t, g, ip, ip.uplink)
		comesBack(t, u, ip.uplink)
		leaks.none(t)
		g.ipmasq(t, 0, "status")
		g.delete(t)
	})
}

// A line that vanishes with its interface, and returns as another one of the
// same name and then of another, with another address each time, as PPP does.
func TestUplinkVanishes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, ip family) {
		topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
		at90(topo)
		g := applied(t, topo, ip.changing())
		topo.GW.Down("eth0")
		var u *lab.UDPConn
		for _, line := range []struct{ name, v4, v6 string }{
			{"ppp0", "100.64.7.", "2001:db8:64::"}, {"ppp0", "100.64.8.", "2001:db8:65::"}, {"ppp5", "100.64.7.", "2001:db8:64::"},
		} {
			near, far, bits := line.v4+"2", line.v4+"1", "/30"
			if ip.v6() {
				near, far, bits = line.v6+"2", line.v6+"1", "/126"
			}
			topo.Link(topo.GW, line.name, topo.ISP, "line")
			topo.ISP.Addr("line", far+bits)
			topo.GW.Addr(line.name, near+bits)
			topo.GW.Route("default", far)
			leaks := g.leaks(t, line.name)
			reachable(t, g, ip, near)
			if u == nil {
				u = remembered(t, g, ip, near)
			}
			comesBack(t, u, near)
			leaks.none(t)
			leaks.stop()
			// What is sent while there is no way out is lost, and remembered by nobody.
			topo.GW.DeleteLink(line.name)
			fails(t, topo.LAN2, at(ip.outside, 80), lab.IsUnreachable)
		}
		g.ipmasq(t, 0, "status")
		g.delete(t)
	})
}
