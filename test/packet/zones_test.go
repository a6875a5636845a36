package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Packets within a zone are treated like any other.
func TestWithinAZone(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.LAN2)
	// Two networks behind one interface: their hosts meet on the gateway.
	topo.GW.Addr("eth1", "192.168.7.1/24", "fd00:7::1/64")
	topo.LAN2.DelAddr("eth0", lab.LAN2+"/24")
	topo.LAN2.DelAddr("eth0", lab.LAN2v6+"/64")
	topo.LAN2.Addr("eth0", "192.168.7.11/24", "fd00:7::11/64")
	topo.LAN2.Route("default", "192.168.7.1")
	topo.LAN2.Route("default", "fd00:7::1")
	policy := `
zones:
  lan: {interfaces: [eth1], networks: [192.168.0.0/16, "fd00::/8"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`
	g := applied(t, topo, policy)
	// A redirect would lead the hosts past the gateway.
	for _, name := range []string{"net.ipv4.conf.all.send_redirects", "net.ipv4.conf.eth1.send_redirects"} {
		g.GW.Sysctl(name, "0")
	}
	other := func(ip family) string {
		if ip.v6() {
			return "fd00:7::11"
		}
		return "192.168.7.11"
	}
	each(t, func(t *testing.T, ip family) { fails(t, g.LAN1, at(other(ip), 80), lab.IsTimeout) })
	g.apply(t, policy+`
forward:
  rules:
    - {from: lan, to: lan, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(other(ip), 80), ip.lan1) // not translated
		asks(t, g.LAN1, at(other(ip), 53), ip.lan1)
	})
}

// Bridged frames are not forwarded packets, even where br_netfilter shows them
// to the forward chain: hosts on one bridge go on to see each other.
func TestBridgedLAN(t *testing.T) {
	lab.Require(t, lab.BrNetfilter())
	// Shown to the rules, it is traffic within a zone, for which they want a
	// rule; apply says so where there is none.
	within := map[string]string{"0": "", "1": "forward: {rules: [{from: lan, to: lan, action: accept}]}\n"}
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.BridgedLAN(), lab.Interfaces(lab.Names{LAN: "br0"}), lab.WithoutDMZ(), lab.WithoutGuest())
			topo.GW.Sysctl("net.bridge.bridge-nf-call-iptables", call)
			topo.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", call)
			answering(topo.Server, topo.LAN2)
			g := applied(t, topo, `
zones:
  lan: {interfaces: [br0], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`+within[call])
			each(t, func(t *testing.T, ip family) {
				opens(t, g.LAN1, at(ip.lan2, 80), ip.lan1)
				asks(t, g.LAN1, at(ip.lan2, 53), ip.lan1)
				pings(t, g.LAN1, ip.lan2)
				opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
			})
		})
	}
}

// What arrives on a zone's interface with a source that no zone has is judged
// by the default; so is a family that the zone does not have.
func TestStrangersOnAZonesInterface(t *testing.T) {
	for _, c := range []struct {
		action string
		is     func(error) bool
	}{{"drop", lab.IsTimeout}, {"reject", lab.IsRefused}, {"accept", nil}} {
		t.Run(c.action, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
			answering(topo.Server)
			g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/29, "fd00:1::/124"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24]}
  wan: {interfaces: [eth0], networks: [0.0.0.0/0]}
masquerade:
  - {from: [lan, dmz], to: wan}
forward:
  default: `+c.action+`
  rules:
    - {from: [lan, dmz], action: accept}
`)
			g.Forwarding(true)
			v4, v6 := families()[0], families()[1]
			for _, try := range []struct {
				from *lab.Host
				ip   family
				self string
			}{
				{g.LAN1, v4, lab.LAN1}, // outside of the zone's network
				{g.LAN1, v6, lab.LAN1v6},
				{g.DMZ, v6, lab.DMZ1v6}, // no IPv6 in that zone
			} {
				if c.is == nil {
					opens(t, try.from, at(try.ip.outside, 80), try.self)
					continue
				}
				fails(t, try.from, at(try.ip.outside, 80), c.is)
				failsUDP(t, try.from, at(try.ip.outside, 53), c.is)
			}
			opens(t, g.DMZ, at(v4.outside, 80), v4.uplink)
			// Nor has the other side any IPv6.
			if c.is != nil {
				fails(t, g.Server, at(v6.dmz, 80), c.is)
			}
		})
	}
}

// An interface by a pattern of names, which comes after the apply.
func TestWildcardInterfaces(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{LAN: "br-home", DMZ: "brx", Guest: "br-"}))
	answering(topo.Server)
	g := applied(t, topo, `
zones:
  vms: {interfaces: ["br-*"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: vms, to: wan}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.Guest, at(ip.outside, 80), ip.uplink) // the prefix alone is a name too
		seen := g.ISP.Capture("eth0", lab.SrcIn(ip.dmz))
		failsPing(t, g.DMZ, ip.isp) // brx does not begin so: it is in no zone
		if seen.Sync(); seen.Count() == 0 {
			t.Error("brx was taken for a br-*")
		}
	})
	g.GW.Down("brx")
	g.GW.Rename("brx", "br-late")
	g.GW.Up("br-late")
	g.GW.Addr("br-late", lab.GatewayDMZv6+"/64")
	each(t, func(t *testing.T, ip family) { opens(t, g.DMZ, at(ip.outside, 80), ip.uplink) })
}

// Of two zones that could both have a packet the narrower one has it: by
// network, by interface, by both.
func TestNarrowerZone(t *testing.T) {
	for name, zones := range map[string]string{
		"network": `
  some: {interfaces: [eth1], networks: [192.168.1.10, "fd00:1::10"]}
  all: {interfaces: [eth1]}`,
		"network in a network": `
  some: {interfaces: [eth1], networks: [192.168.1.10, "fd00:1::10"]}
  all: {interfaces: [eth1, eth2], networks: [192.168.0.0/16, "fd00::/8"]}`,
		"interface and network": `
  all: {interfaces: ["eth*"], networks: [192.168.0.0/16, "fd00::/8"]}
  some: {interfaces: [eth1], networks: [192.168.1.0/28, "fd00:1::10"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "wan0"}), lab.InsideRoutes(), lab.WithoutGuest())
			answering(topo.Server)
			if name == "interface and network" {
				topo.LAN2.DelAddr("eth0", lab.LAN2+"/24")
				topo.LAN2.Addr("eth0", "192.168.1.20/24")
				topo.LAN2.Route("default", lab.GatewayLAN)
			}
			g := applied(t, topo, "\nzones:"+zones+`
  wan: {interfaces: [wan0]}
masquerade:
  - {from: some, to: wan}
forward:
  rules:
    - {from: all, to: wan, protocol: tcp, ports: 80, action: accept}
    - {from: wan, to: some, protocol: tcp, ports: 22, action: accept}
    - {from: wan, to: all, protocol: tcp, ports: 80, action: accept}
`)
			answering(topo.LAN1, topo.LAN2)
			each(t, func(t *testing.T, ip family) {
				lan2 := ip.lan2
				if name == "interface and network" && !ip.v6() {
					lan2 = "192.168.1.20"
				}
				// The narrower one is masqueraded, and none of the wider one's rules is for it.
				opens(t, g.LAN1, at(ip.outside, 81), ip.uplink)
				opens(t, g.LAN2, at(ip.outside, 80), lan2)
				fails(t, g.LAN2, at(ip.outside, 81), lab.IsTimeout)
				// The same on the way in.
				opens(t, g.Server, at(ip.lan1, 22), ip.outside)
				opens(t, g.Server, at(lan2, 80), ip.outside)
				together(
					func() { fails(t, g.Server, at(ip.lan1, 80), lab.IsTimeout) },
					func() { fails(t, g.Server, at(lan2, 22), lab.IsTimeout) },
				)
			})
		})
	}
}

// One interface of a pattern is a zone of its own.
func TestNarrowerInterface(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{LAN: "br-lan", DMZ: "br-dmz"}), lab.WithoutGuest())
	answering(topo.Server, topo.LAN1, topo.DMZ)
	g := applied(t, topo, `
zones:
  bridges: {interfaces: ["br-*"]}
  dmz: {interfaces: [br-dmz]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: bridges, to: wan, protocol: tcp, ports: 80}
  - {from: dmz, to: wan, protocol: tcp, ports: 81}
forward:
  rules:
    - {from: bridges, to: dmz, action: accept}
    - {from: dmz, to: bridges, protocol: udp, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.DMZ, at(ip.outside, 81), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		asks(t, g.DMZ, at(ip.lan1, 53), ip.dmz)
		together(
			func() { fails(t, g.LAN1, at(ip.outside, 81), lab.IsTimeout) },
			func() { fails(t, g.DMZ, at(ip.outside, 80), lab.IsTimeout) },
			func() { fails(t, g.DMZ, at(ip.lan1, 80), lab.IsTimeout) },
		)
	})
}

// A zone without interfaces has its addresses wherever they come from.
func TestZoneWithoutInterfaces(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	answering(topo.Server, topo.LAN1, topo.DMZ)
	g := applied(t, topo, `
zones:
  inside: {networks: [192.168.0.0/16, "fd00:1::/64", "fd00:2::/64"]}
  wan: {interfaces: [eth0], networks: [203.0.113.0/24, 198.51.100.0/24, "2001:db8::/32"]}
masquerade:
  - {from: inside, to: wan}
forward:
  rules:
    - {from: inside, to: inside, protocol: tcp, ports: 80, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.DMZ, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		fails(t, g.LAN1, at(ip.dmz, 81), lab.IsTimeout)
		// The guest is in no zone, and no zone names its interface.
		opens(t, g.Guest, at(ip.lan1, 80), ip.guest)
		// The gateway's own connections are its own.
		opens(t, g.GW, at(ip.outside, 80), ip.uplink)
		pings(t, g.GW, ip.lan1)
	})
	g.delete(t)
}
