package examples_test

import (
	"context"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// network is what an example is for: a gateway with its interfaces, and the
// traffic that the example promises to carry and to stop.
type network struct {
	gateway *lab.Host
	traffic func(t *testing.T)
}

// networks builds the network of each example.
func networks() map[string]func(t *testing.T) network {
	return map[string]func(t *testing.T) network{
		"home.yaml":             home,
		"router.yaml":           router,
		"cloud-nat.yaml":        cloudNAT,
		"vm-host.yaml":          vmHost,
		"two-lans-dmz.yaml":     twoLANsDMZ,
		"dual-stack.yaml":       dualStack,
		"two-servers.yaml":      twoServers,
		"two-uplinks.yaml":      twoUplinks,
		"public-addresses.yaml": publicAddresses,
		"ftp.yaml":              ftp,
	}
}

// reach connects and gives what the server saw.
func reach(t *testing.T, from *lab.Host, addr string, opts ...lab.DialOption) lab.Seen {
	t.Helper()
	c, err := from.DialTCP(lab.Patience, addr, opts...)
	if err != nil {
		t.Fatalf("%s does not reach %s: %v", from.Name(), addr, err)
	}
	defer c.Close()
	if err := c.Echo(lab.Patience, "hello"); err != nil {
		t.Fatalf("%s to %s: %v", from.Name(), addr, err)
	}
	return c.Seen()
}

// sees checks who answered, and whom it saw.
func sees(t *testing.T, got lab.Seen, server, peer string) {
	t.Helper()
	if got.Name != server || got.Peer.Addr().String() != peer {
		t.Errorf("%s answered and saw %s, want %s and %s", got.Name, got.Peer.Addr(), server, peer)
	}
}

// fails checks that a connection is not made, for the reason that is says.
func fails(t *testing.T, is func(error) bool, from *lab.Host, addr string, opts ...lab.DialOption) {
	t.Helper()
	c, err := from.DialTCP(lab.Silence, addr, opts...)
	if err == nil {
		c.Close()
		t.Errorf("%s reaches %s", from.Name(), addr)
	} else if !is(err) {
		t.Errorf("%s to %s fails for another reason: %v", from.Name(), addr, err)
	}
}

// move gives a host of the standard topology another address, and the default
// route by way of the gateway there.
func move(h *lab.Host, from, to, gateway string) {
	h.DelAddr("eth0", from)
	h.Addr("eth0", to)
	h.Route("default", gateway)
}

func router(t *testing.T) network {
	l := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	l.Server.ServeTCP(":80")
	l.GW.ServeTCP(":22")
	l.GW.ServeTCP(":80")
	l.GW.ServeUDP(":53")
	leases := l.GW.ServeUDP("0.0.0.0:67")
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.LAN1, lab.GatewayLAN+":22"), "gw", lab.LAN1)
		for _, asked := range []string{lab.GatewayLAN + ":53", lab.Outside + ":53", "[" + lab.Outsidev6 + "]:53"} {
			seen, err := l.LAN2.UDPExchange("", asked, "name?", lab.Patience)
			if err != nil || seen.Name != "gw" {
				t.Errorf("%s was answered by %v, %v", asked, seen, err)
			}
		}
		discover := lab.UDP{Header: lab.Between("0.0.0.0", "255.255.255.255"), SrcPort: 68, DstPort: 67, Payload: []byte("discover")}.Bytes()
		l.Neighbor.SendPacket("eth0", discover)
		l.LAN1.SendPacket("eth0", discover)
		ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
		defer cancel()
		if _, err := leases.WaitPeer(ctx); err != nil {
			t.Errorf("the house gets no addresses: %v", err)
		}
		if got := leases.Peers(); len(got) != 1 {
			t.Errorf("asked for an address: %v, want the house alone", got)
		}
		if r, err := l.Server.Ping(lab.GatewayUplink, lab.Patience, lab.PingOptions{}); err != nil || !r.Echo() {
			t.Errorf("the outside pings: %v, %v", r, err)
		}
		fails(t, lab.IsRefused, l.LAN1, lab.GatewayLAN+":80")
		fails(t, lab.IsTimeout, l.Server, lab.GatewayUplink+":22")
	}}
}

func home(t *testing.T) network {
	l := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "ppp0", LAN: "eth1"}), lab.WithoutDMZ(), lab.WithoutGuest())
	l.Server.ServeTCP(":80")
	l.LAN1.ServeTCP(":8080")
	l.LAN1.ServeTCP(":22")
	l.LAN2.ServeUDP(":27020")
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN2, lab.Outside+":80"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":80"), "lan1", lab.Outside)
		sees(t, reach(t, l.LAN2, lab.GatewayUplink+":80"), "lan1", lab.GatewayLAN)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":2222"), "lan1", lab.Outside)
		seen, err := l.Server.UDPExchange("", lab.GatewayUplink+":27020", "hello", lab.Patience)
		if err != nil {
			t.Errorf("udp: %v", err)
		}
		sees(t, seen, "lan2", lab.Outside)
		fails(t, lab.IsRefused, l.Neighbor, lab.GatewayUplink+":2222")
		fails(t, lab.IsRefused, l.LAN2, lab.Outside+":25")
	}}
}

// cloudNAT is a cloud network: its router sends what the private subnets have
// for elsewhere to the instance, and what the instance has onwards.
func cloudNAT(t *testing.T) network {
	l := lab.New(t)
	router := l.Host("router")
	router.Sysctl("net.ipv4.ip_forward", "1")
	host := func(name, port, address, gateway string) *lab.Host {
		h := l.Host(name)
		l.Link(router, port, h, "eth0")
		router.Addr(port, gateway+"/24")
		h.Addr("eth0", address+"/24")
		h.Route("default", gateway)
		return h
	}
	instance := host("instance", "eth0", "10.0.0.5", "10.0.0.1")
	private := host("private", "eth1", "10.0.1.10", "10.0.1.1")
	other := host("other", "eth2", "10.0.2.10", "10.0.2.1")
	internet := host("internet", "eth3", "198.51.100.9", "198.51.100.1")
	stranger := host("stranger", "eth4", "192.0.2.9", "192.0.2.1")
	router.Route("default", "10.0.0.5 table 100")
	for _, port := range []string{"eth1", "eth2"} {
		router.Rule("iif " + port + " table 100")
	}
	internet.ServeTCP(":80")
	private.ServeTCP(":22")
	other.ServeTCP(":80")
	return network{instance, func(t *testing.T) {
		seen := reach(t, private, "198.51.100.9:80")
		sees(t, seen, "internet", "10.0.0.5")
		if port := seen.Peer.Port(); port < 32768 {
			t.Errorf("outside port %d, want one from 32768", port)
		}
		// In and out by one interface, but not within one network.
		sees(t, reach(t, internet, "10.0.0.5:2222"), "private", "198.51.100.9")
		fails(t, lab.IsRefused, stranger, "10.0.0.5:2222")
		fails(t, lab.IsRefused, private, "198.51.100.9:25")
		fails(t, lab.IsRefused, private, "10.0.2.10:80")
	}}
}

func vmHost(t *testing.T) network {
	l := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "eno1", LAN: "virbr0", DMZ: "br-build"}), lab.BridgedLAN(), lab.WithoutGuest())
	// With br_netfilter the kernel turns a hairpin on one bridge into bridged
	// traffic: it works, and the target sees the client.
	if call := "net.bridge.bridge-nf-call-iptables"; l.GW.HasSysctl(call) {
		l.GW.Sysctl(call, "0")
	}
	l.GW.Addr("virbr0", "192.168.122.1/24")
	l.GW.Addr("br-build", "10.20.0.1/16")
	move(l.LAN1, lab.LAN1+"/24", "192.168.122.11/24", "192.168.122.1")
	move(l.LAN2, lab.LAN2+"/24", "192.168.122.12/24", "192.168.122.1")
	move(l.DMZ, lab.DMZ1+"/24", "10.20.0.13/16", "10.20.0.1")
	l.Server.ServeTCP(":80")
	l.LAN1.ServeTCP(":80")
	l.LAN2.ServeTCP(":22")
	l.LAN2.ServeUDP(":9003")
	l.LAN2.ServeTCP(":5000")
	l.DMZ.ServeTCP(":22")
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.DMZ, lab.Outside+":80"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":8001"), "lan1", lab.Outside)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":2202"), "lan2", lab.Outside)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":2203"), "dmz1", lab.Outside)
		sees(t, reach(t, l.DMZ, lab.GatewayUplink+":8001"), "lan1", "10.20.0.13")
		seen, err := l.Server.UDPExchange("", lab.GatewayUplink+":9003", "hello", lab.Patience)
		if err != nil {
			t.Errorf("udp: %v", err)
		}
		sees(t, seen, "lan2", lab.Outside)
		reply, err := l.LAN1.Ping("10.20.0.13", lab.Patience, lab.PingOptions{})
		if err != nil || !reply.Echo() {
			t.Errorf("ping between bridges: %v, %v", reply, err)
		}
		fails(t, lab.IsRefused, l.LAN1, "10.20.0.13:22")
		sees(t, reach(t, l.LAN2, lab.GatewayUplink+":8001"), "lan1", "192.168.122.1")
		fails(t, lab.IsRefused, l.Server, lab.GatewayUplink+":8003")
		sees(t, reach(t, l.GW, "127.0.0.1:5000"), "lan2", "192.168.122.1")
		fails(t, lab.IsRefused, l.Server, lab.GatewayUplink+":5000")
	}}
}

func twoLANsDMZ(t *testing.T) network {
	l := lab.Gateway(t, lab.Interfaces(lab.Names{Guest: "eth3"}))
	l.GW.Addr("eth3", "192.168.3.1/24")
	move(l.Guest, lab.Guest+"/24", "192.168.3.10/24", "192.168.3.1")
	for _, port := range []string{":80", ":25", ":22"} {
		l.Server.ServeTCP(port)
		l.DMZ.ServeTCP(port)
	}
	l.LAN1.ServeTCP(":80")
	l.Neighbor.Route("192.168.0.0/16", lab.GatewayUplink)
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN1, lab.Outside+":22"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.DMZ, lab.Outside+":25"), "server", lab.GatewayUplink)
		seen := reach(t, l.Guest, lab.Outside+":80")
		sees(t, seen, "server", lab.GatewayUplink)
		if port := seen.Peer.Port(); port < 40000 || port > 60000 {
			t.Errorf("outside port %d, want one of 40000-60000", port)
		}
		sees(t, reach(t, l.Server, lab.GatewayUplink+":80"), "dmz1", lab.Outside)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":25"), "dmz1", lab.Outside)
		sees(t, reach(t, l.LAN1, lab.DMZ1+":22"), "dmz1", lab.LAN1)
		sees(t, reach(t, l.LAN1, lab.GatewayUplink+":80"), "dmz1", lab.LAN1)
		sees(t, reach(t, l.Guest, lab.GatewayUplink+":80"), "dmz1", "192.168.3.10")
		fails(t, lab.IsRefused, l.DMZ, lab.Outside+":22")
		fails(t, lab.IsRefused, l.Guest, lab.Outside+":25")
		fails(t, lab.IsRefused, l.Guest, lab.LAN1+":80")
		fails(t, lab.IsRefused, l.Guest, lab.DMZ1+":80")
		fails(t, lab.IsRefused, l.DMZ, lab.LAN1+":80")
		fails(t, lab.IsTimeout, l.Neighbor, lab.LAN1+":80")
		fails(t, lab.IsRefused, l.Neighbor, lab.DMZ1+":80")
	}}
}

func dualStack(t *testing.T) network {
	const net, lan1, lan2, gw = "2001:db8:1::/64", "2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::1"
	l := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	l.GW.Addr("eth1", gw+"/64")
	move(l.LAN1, lab.LAN1v6+"/64", lan1+"/64", gw)
	move(l.LAN2, lab.LAN2v6+"/64", lan2+"/64", gw)
	l.ISP.Route(net, lab.GatewayUplinkv6)
	for _, h := range []*lab.Host{l.Server, l.LAN1, l.LAN2} {
		h.ServeTCP(":80")
		h.ServeTCP(":22")
	}
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN2, lab.Outside+":80"), "server", lab.GatewayUplink)
		sees(t, reach(t, l.LAN2, "["+lab.Outsidev6+"]:80"), "server", lan2)
		sees(t, reach(t, l.Server, lab.GatewayUplink+":80"), "lan1", lab.Outside)
		sees(t, reach(t, l.Server, "["+lan1+"]:80"), "lan1", lab.Outsidev6)
		reply, err := l.Server.Ping(lan1, lab.Patience, lab.PingOptions{})
		if err != nil || !reply.Echo() {
			t.Errorf("ping: %v, %v", reply, err)
		}
		fails(t, lab.IsTimeout, l.Server, "["+lan1+"]:22")
		fails(t, lab.IsTimeout, l.Server, "["+lan2+"]:80")
	}}
}

func publicAddresses(t *testing.T) network {
	const mail, rented = "198.18.5.10", "198.18.5.35"
	l := lab.Gateway(t, lab.WithoutGuest())
	l.DMZ.Addr("eth0", "192.168.2.35/24", "192.168.2.99/24")
	for _, h := range []*lab.Host{l.ISP, l.Neighbor} {
		h.Route("198.18.5.0/26", lab.GatewayUplink)
	}
	l.Neighbor.Route("192.168.2.0/24", lab.GatewayUplink)
	for _, port := range []string{":22", ":25", ":80"} {
		l.DMZ.ServeTCP(port)
		l.Server.ServeTCP(port)
	}
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.DMZ, lab.Outside+":25", lab.From(lab.DMZ1)), "server", mail)
		sees(t, reach(t, l.DMZ, lab.Outside+":25", lab.From("192.168.2.35")), "server", rented)
		sees(t, reach(t, l.DMZ, lab.Outside+":25", lab.From("192.168.2.99")), "server", lab.GatewayUplink)
		sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
		for _, from := range []*lab.Host{l.Server, l.LAN1} {
			address := from.Addrs("eth0")[0].Addr().String()
			seen := reach(t, from, mail+":25")
			sees(t, seen, "dmz1", address)
			seen = reach(t, from, rented+":22")
			sees(t, seen, "dmz1", address)
			if got := seen.Local.Addr().String(); got != "192.168.2.35" {
				t.Errorf("%s is %s", rented, got)
			}
			fails(t, lab.IsTimeout, from, mail+":80")
		}
		fails(t, lab.IsTimeout, l.Server, mail+":22")
		reply, err := l.Server.Ping(mail, lab.Patience, lab.PingOptions{})
		if err != nil || !reply.Echo() {
			t.Errorf("ping: %v, %v", reply, err)
		}
		sees(t, reach(t, l.LAN1, lab.DMZ1+":22"), "dmz1", lab.LAN1)
		sees(t, reach(t, l.LAN1, mail+":22"), "dmz1", lab.LAN1)
		fails(t, lab.IsTimeout, l.Neighbor, lab.DMZ1+":25")
		fails(t, lab.IsTimeout, l.Neighbor, "192.168.2.35:80")
		fails(t, lab.IsTimeout, l.DMZ, lab.LAN1+":80")
	}}
}

func twoServers(t *testing.T) network {
	l := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "eth0", LAN: "eth1"}), lab.WithoutDMZ(), lab.WithoutGuest())
	for _, h := range []*lab.Host{l.LAN1, l.LAN2} {
		h.ServeTCP(":443")
		h.ServeTCP(":8443")
	}
	return network{l.GW, func(t *testing.T) {
		for _, server := range []string{"lan1", "lan2", "lan1", "lan2"} {
			sees(t, reach(t, l.Server, lab.GatewayUplink+":443"), server, lab.Outside)
		}
		for _, server := range []string{"lan1", "lan2"} {
			sees(t, reach(t, l.Server, "["+lab.GatewayUplinkv6+"]:443"), server, lab.Outsidev6)
		}
		first := reach(t, l.Neighbor, lab.GatewayUplink+":9443").Name
		for range 3 {
			sees(t, reach(t, l.Neighbor, lab.GatewayUplink+":9443"), first, lab.Neighbor)
		}
		fails(t, lab.IsRefused, l.Neighbor, lab.GatewayUplink+":8443")
	}}
}

func twoUplinks(t *testing.T) network {
	l := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	// Provider A drops what has B's addresses.
	l.ISP.Run(t, "nft", "add table ip ingress; add chain ip ingress forward { type filter hook forward priority 0; }; "+
		"add rule ip ingress forward iifname eth0 ip saddr != 203.0.113.0/24 drop")
	l.GW.Sysctl("net.ipv4.conf.all.rp_filter", "1")
	l.Server.ServeTCP(":80")
	l.LAN1.ServeTCP(":80")
	l.GW.ServeTCP(":22")
	return network{l.GW, func(t *testing.T) {
		sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
		for _, uplink := range []string{lab.GatewayUplink, lab.GatewayUplink2} {
			sees(t, reach(t, l.Server, uplink+":80"), "lan1", lab.Outside)
			sees(t, reach(t, l.Server, uplink+":22"), "gw", lab.Outside)
		}
	}}
}
