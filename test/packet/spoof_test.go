package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An inside host that sends from the gateway's own address is not the gateway:
// IPv6 routes it on, and the guard spares what the gateway itself sends.
func TestGuardForgedOwnAddress(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"], antispoof: false}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: out, from: lan, to: wan}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		self := lab.Between(ip.gwLAN, ip.outside)
		topo.LAN1.SendPacket("eth0",
			lab.UDP{Header: self, SrcPort: 999, DstPort: 53, Payload: []byte("forged")}.Bytes(),
			lab.TCP{Header: self, SrcPort: 999, DstPort: 443, Flags: lab.SYN}.Bytes(),
			lab.ICMPEcho{Header: self, ID: 9}.Bytes())
		topo.Settle()
		pings(t, g.LAN1, ip.gwLAN)
	})
	leaks.none(t)
	if n := g.entry(t, "masquerade out").LeaksStopped; n < 3 {
		t.Errorf("%d leaks stopped, want those of IPv6 at least", n)
	}
	g.delete(t)
}

// Two inside zones on one interface: what goes from one to the other by a port
// forward leaves by the interface that it came in by.
func TestHairpinBetweenZonesOnOneInterface(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.LAN1.ServeTCP(":8080")
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  kids: {interfaces: [eth1], networks: [192.168.1.11, "fd00:1::11"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: [lan, kids], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.10:8080"}
  - {name: web6, from: wan, protocol: tcp, ports: 80, to: "[fd00:1::10]:8080"}
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN2, at(ip.uplink, 80), ip.gwLAN)
		opens(t, g.LAN1, at(ip.uplink, 80), ip.gwLAN)
		opens(t, g.Server, at(ip.uplink, 80), ip.outside)
	})
	g.delete(t)
}

// An uplink that uses an address of another interface by intent: the entry
// says which sources it translates, and that address is none of them.
func TestMasqueradeUnnumberedUplink(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	// Before there is a masquerade: the kernel cuts the flows of an address that
	// goes, some time later, and the new ones are of the same address.
	topo.GW.DelAddr("eth0", lab.GatewayUplink+"/24")
	topo.GW.Addr("lo", lab.GatewayUplink+"/32")
	topo.GW.Route(lab.ISP+"/32", "dev eth0")
	topo.GW.Route("default", lab.ISP+" onlink dev eth0")
	topo.ISP.Route(lab.GatewayUplink+"/32", "dev eth0")
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, 203.0.113.0/29]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan, sources: 192.168.1.0/24}
`)
	opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
}
