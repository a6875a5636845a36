package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A masquerade takes the address that the uplink has now, with no new apply.
func TestMasqueradeFollowsTheAddress(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		renumbered, prefix, next := "203.0.113.77", "/24", lab.ISP
		if ip.v6() {
			renumbered, prefix, next = "2001:db8:113::77", "/64", lab.ISPv6
		}
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		u, err := g.LAN1.DialUDP(at(ip.outside, 53))
		if err != nil {
			t.Fatal(err)
		}
		if seen, err := u.Exchange(lab.Patience, "before"); err != nil || seen.Peer.Addr().String() != ip.uplink {
			t.Errorf("the server saw %v, %v", seen, err)
		}
		g.GW.DelAddr("eth0", ip.uplink+prefix)
		g.GW.Addr("eth0", renumbered+prefix)
		g.GW.Route("default", next)
		opens(t, g.LAN1, at(ip.outside, 80), renumbered)
		asks(t, g.LAN1, at(ip.outside, 53), renumbered)
		pings(t, g.LAN1, ip.outside)
		// A socket that goes on sending, as a tunnel does, comes back by itself:
		// the kernel forgets the flow, a moment after the address has gone.
		until := time.Now().Add(lab.Patience)
		for seen, err := u.Exchange(lab.Silence, "after"); seen.Peer.Addr().String() != renumbered; seen, err = u.Exchange(lab.Silence, "after") {
			if time.Now().After(until) {
				t.Errorf("a datagram of before: the server saw %v, %v; want %s", seen, err, renumbered)
				break
			}
		}
		if c != nil {
			_ = c.Echo(lab.Silence, "a connection of before")
		}
	})
	leaks.none(t)
	g.ipmasq(t, 0, "status") // no drift
}

// With two uplinks in a zone each flow has the address of the one that it
// leaves by, and the default route may move.
func TestMasqueradeSecondUplink(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0, eth3]}
masquerade:
  - {from: lan, to: wan}
`)
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) {
		next, back, whole := lab.ISP2, lab.ISP, "default"
		if ip.v6() {
			next, back = lab.ISP2v6, lab.ISPv6
		}
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		u, err := g.LAN1.DialUDP(at(ip.outside, 53))
		if err != nil {
			t.Fatal(err)
		}
		if seen, err := u.Exchange(lab.Patience, "before"); err != nil || seen.Peer.Addr().String() != ip.uplink {
			t.Errorf("the server saw %v, %v", seen, err)
		}
		g.GW.DelRoute(whole, back)
		g.GW.Route(whole, next)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink2)
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink2)
		pings(t, g.LAN1, ip.outside)
		// The kernel drops the first packet of a flow whose uplink has changed,
		// and forgets the flow; the next one is a new flow.
		_ = u.Send("lost")
		g.Settle()
		if seen, err := u.Exchange(lab.Patience, "after"); err != nil || seen.Peer.Addr().String() != ip.uplink2 {
			t.Errorf("a datagram of before: the server saw %v, %v; want %s", seen, err, ip.uplink2)
		}
		g.GW.DelRoute(whole, next)
		g.GW.Route(whole, back)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
	})
	leaks.none(t)
}

// An uplink may come after the apply, and by a pattern of names.
func TestMasqueradeUplinkComesLater(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	topo.GW.Down("eth0")
	topo.GW.Rename("eth0", "other")
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: ["ppp*"]}
masquerade:
  - {from: lan, to: wan}
`)
	g.GW.Rename("other", "ppp7")
	g.GW.Up("ppp7")
	g.GW.Addr("ppp7", lab.GatewayUplinkv6+"/64") // gone with the link
	g.GW.Route("default", lab.ISP)
	g.GW.Route("default", lab.ISPv6)
	leaks := g.leaks(t, "ppp7")
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		pings(t, g.LAN1, ip.outside)
	})
	leaks.none(t)
}

// Several zones on both sides, with an entry each: each flow is translated by
// the pair of zones that it goes between.
func TestMasqueradeSeveralZones(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutGuest())
	answering(topo.Server, topo.ISP2)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
  backup: {interfaces: [eth3]}
masquerade:
  - {name: both, from: [lan, dmz], to: wan}
  - {name: lan, from: lan, to: [backup]}
`)
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink)
		tcp(g.DMZ, ip.outside, 80).sees(t, ip.uplink)
		tcp(g.LAN1, ip.isp2, 80).sees(t, ip.uplink2)
		tcp(g.DMZ, ip.isp2, 80).dropped(t)
	})
	leaks.none(t)
	g.delete(t)
}

// An uplink without an address of its own, as of a provider that hands out a
// prefix for the inside alone.
func TestMasqueradeUplinkWithoutAddress(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{"networks": lanToWAN, "no networks": `
zones:
  lan: {interfaces: [eth1]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unnumbered(t, policy)
		})
	}
}

func unnumbered(t *testing.T, policy string) {
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := applied(t, topo, policy)
	g.nftablesOnly(t, "nothing can be asked of a packet behind nat, so an address that was borrowed is not seen")
	leaks := g.leaks(t)
	g.GW.DelAddr("eth0", lab.GatewayUplink+"/24")
	g.GW.DelAddr("eth0", lab.GatewayUplinkv6+"/64")
	g.GW.Route("default", "dev eth0")
	g.GW.Route("::/0", "dev eth0")
	each(t, func(t *testing.T, ip family) {
		g.GW.Neighbor("eth0", ip.outside, g.ISP.MAC("eth0"))
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
	})
	leaks.none(t)
}
