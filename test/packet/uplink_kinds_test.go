//go:build vm

package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The addresses of the link between the gateway and its ISP.
const (
	linkGW, linkISP     = "192.0.2.2", "192.0.2.1"
	linkGWv6, linkISPv6 = "2001:db8:2::2", "2001:db8:2::1"
)

// A VLAN on the uplink's wire is the uplink. What leaves it is tagged, and the
// wire below it belongs to no zone.
func TestVMUplinkVLAN(t *testing.T) {
	t.Parallel()
	topo := rerouted(t)
	for _, h := range []*lab.Host{topo.GW, topo.ISP} {
		h.Run(t, "ip", "link", "add", "link", "eth0", "name", "eth0.100", "type", "vlan", "id", "100")
		h.Up("eth0.100")
	}
	topo.ISP.Addr("eth0.100", linkISP+"/24", linkISPv6+"/64")
	g := untouched(t, topo)
	g.apply(t, onlyUplink("eth0.100"))
	g.GW.Addr("eth0.100", linkGW+"/24", linkGWv6+"/64")
	g.GW.Route("default", linkISP)
	g.GW.Route("default", linkISPv6)
	g.works(t, linkGW, linkGWv6, 0)
	fails(t, g.Neighbor, at(lab.GatewayUplink, 8080), lab.IsRefused)
	fails(t, g.Neighbor, at(lab.GatewayUplinkv6, 8080), lab.IsRefused)
	g.delete(t)
}

// The way out is a tunnel, whose own packets leave by another interface.
func TestVMUplinkWireGuard(t *testing.T) {
	t.Parallel()
	topo := rerouted(t)
	key := map[*lab.Host]string{}
	for _, h := range []*lab.Host{topo.GW, topo.ISP} {
		key[h] = h.Run(t, "wg", "genkey")
		h.Run(t, "ip", "link", "add", "wg0", "type", "wireguard")
	}
	for _, end := range []struct {
		own, peer *lab.Host
		endpoint  string
	}{
		{topo.GW, topo.ISP, lab.ISP + ":51820"},
		{topo.ISP, topo.GW, "[" + lab.GatewayUplinkv6 + "]:51820"},
	} {
		public := strings.TrimSpace(end.peer.Feed(t, key[end.peer], "wg", "pubkey"))
		end.own.Feed(t, key[end.own], "wg", "set", "wg0", "listen-port", "51820", "private-key", "/dev/stdin",
			"peer", public, "allowed-ips", "0.0.0.0/0,::/0", "endpoint", end.endpoint)
		end.own.Up("wg0")
	}
	topo.ISP.Addr("wg0", linkISP+"/24", linkISPv6+"/64")
	g := untouched(t, topo)
	g.apply(t, onlyUplink("wg0"))
	g.wayOut("wg0", linkGW+"/24", linkGWv6+"/64")
	beside := g.GW.Capture("eth0", lab.Any(lab.DstIn(lab.Outside), lab.DstIn(lab.Outsidev6)))
	g.works(t, linkGW, linkGWv6, 0)
	if beside.Sync(); beside.Count() != 0 {
		t.Errorf("left beside the tunnel: %v", beside)
	}
	g.delete(t)
}

// An address that is held on an interface without a wire is the gateway's own:
// a port forward serves it, to the outside and to the inside.
func TestVMAddressOnDummy(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	listens(topo.LAN1, 80)
	const v4, v6 = "198.51.100.200", "2001:db8:200::1"
	topo.GW.Run(t, "ip", "link", "add", "dummy0", "type", "dummy")
	topo.GW.Up("dummy0")
	topo.GW.Addr("dummy0", v4+"/32", v6+"/128")
	topo.ISP.Route(v4+"/32", lab.GatewayUplink)
	topo.ISP.Route(v6+"/128", lab.GatewayUplinkv6)
	g := untouched(t, topo)
	g.apply(t, onlyUplink("eth0"))
	each(t, func(t *testing.T, ip family) {
		held := v4
		if ip.v6() {
			held = v6
		}
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, g.ISP, at(held, 8080), at(ip.lan1, 80), "")
			lands(t, proto, g.LAN2, at(held, 8080), at(ip.lan1, 80), ip.gwLAN)
			lands(t, proto, g.GW, at(held, 8080), at(ip.lan1, 80), "")
		}
	})
	g.delete(t)
}
