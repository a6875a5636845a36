package packet

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// linkLocal is a host's own address on a link.
func linkLocal(t *testing.T, h *lab.Host, link string) string {
	t.Helper()
	fields := strings.Fields(h.Run(t, "ip", "-6", "-o", "addr", "show", "dev", link, "scope", "link"))
	if i := slices.Index(fields, "inet6"); i >= 0 {
		addr, _, _ := strings.Cut(fields[i+1], "/")
		return addr
	}
	t.Fatalf("%s has no link-local address on %s: %v", h.Name(), link, fields)
	return ""
}

// The link goes on working with everything closed: hosts find each other,
// routers are found, groups are kept, and a lease is given.
func TestInputLink(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.GW.Sysctl("net.ipv6.conf.eth0.accept_ra", "2")
	isp, gw := linkLocal(t, topo.ISP, "eth0"), linkLocal(t, topo.GW, "eth0")
	lease := topo.GW.ServeUDP("[::]:546")
	g := applied(t, topo, zones+"input: {default: drop}\n")

	// Both ask, and both answer.
	for _, ip := range families() {
		for _, pair := range [][2]string{{"eth1", ip.lan1}, {"eth0", ip.isp}} {
			g.GW.FlushNeighbors(pair[0])
			pings(t, g.GW, pair[1])
		}
		topo.LAN1.FlushNeighbors("eth0")
		// An answer of the gateway's is not needed to see that it was found.
		topo.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.gwLAN), SrcPort: 9, DstPort: 9}.Bytes())
	}

	// A router advertises itself: a lifetime of 1800 seconds.
	advertisement := lab.ICMPError{Header: lab.Header{Src: isp, Dst: "ff02::1", TTL: 255}, Type: 134, MTU: 64<<24 | 1800, Inner: make([]byte, 8)}.Bytes()
	group := []byte{0x33, 0x33, 0, 0, 0, 1}
	topo.ISP.SendPacketTo("eth0", group, advertisement)
	g.Settle()
	if routes := g.GW.Run(t, "ip", "-6", "route", "show", "default"); !strings.Contains(routes, "via "+isp+" dev eth0 proto ra") {
		t.Errorf("the router was not found: %s", routes)
	}
	// One that came over another router is none.
	far := lab.ICMPError{Header: lab.Header{Src: isp, Dst: "ff02::1", TTL: 254}, Type: 134, MTU: 64<<24 | 1800, Inner: make([]byte, 8)}.Bytes()
	before := g.entry(t, "input default").RefusedPackets
	topo.ISP.SendPacketTo("eth0", group, far)
	g.Settle()
	if e := g.entry(t, "input default"); e.RefusedPackets-before != 1 {
		t.Errorf("an advertisement from afar: %+v, want 1 more than %d", e, before)
	}

	// A switch asks who listens (RFC 2710, with the router alert of RFC 2711).
	query := lab.ICMPError{Header: lab.Header{Src: isp, Dst: "ff02::1", TTL: 1}, Type: 130, MTU: 1 << 16, Inner: make([]byte, 16)}.Bytes()
	alert := []byte{58, 0, 5, 2, 0, 0, 1, 0}
	reports := topo.GW.Capture("eth0", lab.All(lab.Outgoing, func(p *lab.Packet) bool { return p.Proto == 58 && (p.ICMPType == 131 || p.ICMPType == 143) }))
	topo.ISP.SendPacketTo("eth0", group, lab.Raw{Header: lab.Header{Src: isp, Dst: "ff02::1", TTL: 1}, Proto: 0, Payload: append(alert, query[40:]...)}.Bytes())
	if _, err := reports.Wait(1, lab.Patience); err != nil {
		t.Errorf("the gateway did not say which groups it listens to: %v", err)
	}

	// A DHCPv6 server answers what was asked of a group.
	topo.ISP.SendPacket("eth0", lab.UDP{Header: lab.Between(isp, gw), SrcPort: 547, DstPort: 546, Payload: []byte("lease")}.Bytes())
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	if peer, err := lease.WaitPeer(ctx); err != nil || peer.Addr().WithZone("").String() != isp {
		t.Errorf("the client got no lease: %v, %v", peer, err)
	}
	topo.ISP.SendPacket("eth0", lab.UDP{Header: lab.Between(lab.ISPv6, lab.GatewayUplinkv6), SrcPort: 547, DstPort: 546, Payload: []byte("from afar")}.Bytes())
	g.Settle()
	if peers := lease.Peers(); len(peers) != 1 {
		t.Errorf("the client got %v", peers)
	}
	g.GW.Run(t, "ip", "-6", "route", "flush", "proto", "ra")
	g.delete(t)
}

// Services for the link: hosts that have no address yet ask for one, and IPv6
// hosts use the router's link-local address. Rules for their zone are theirs.
func TestInputOnLink(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	dhcp, dns := topo.GW.ServeUDP("0.0.0.0:67"), topo.GW.ServeUDP("[::]:53")
	g := applied(t, topo, zones+`
input:
  rules:
    - {name: dhcp, from: lan, protocol: udp, ports: 67, action: accept}
    - {name: dns, from: lan, protocol: udp, ports: 53, action: accept}
`)
	discover := lab.UDP{Header: lab.Between("0.0.0.0", "255.255.255.255"), SrcPort: 68, DstPort: 67, Payload: []byte("discover")}.Bytes()
	for _, h := range []*lab.Host{topo.DMZ, topo.Neighbor, topo.LAN1} {
		h.SendPacket("eth0", discover)
		link := map[*lab.Host]string{topo.DMZ: "eth2", topo.Neighbor: "eth0", topo.LAN1: "eth1"}[h]
		h.SendPacket("eth0", lab.UDP{Header: lab.Between(linkLocal(t, h, "eth0"), linkLocal(t, topo.GW, link)), SrcPort: 5000, DstPort: 53, Payload: []byte("name")}.Bytes())
	}
	g.Settle()
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	for server, want := range map[*lab.Server]string{dhcp: "0.0.0.0", dns: linkLocal(t, topo.LAN1, "eth0")} {
		peer, err := server.WaitPeer(ctx)
		if err != nil || peer.Addr().WithZone("").String() != want {
			t.Errorf("port %d was asked by %v, %v, want %s", server.Port(), peer, err, want)
		}
		if n := len(server.Peers()); n != 1 {
			t.Errorf("port %d was asked by %v, want the lan alone", server.Port(), server.Peers())
		}
	}
	g.delete(t)
}
