package packet

import (
	"io"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// ends closes a connection on both sides and waits until the gateway has seen
// all of it.
func (g *gateway) ends(t *testing.T, c *lab.Conn) {
	t.Helper()
	if c == nil {
		return // and opens has said why
	}
	_ = c.SetReadDeadline(time.Now().Add(lab.Patience))
	if err := c.CloseWrite(); err != nil {
		t.Errorf("close %s: %v", c.Local(), err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("wait for the end of %s: %v", c.Local(), err)
	}
	c.Close()
	g.Settle()
}

// limited sees how many packets an entry's limit has stopped so far. A client
// may send again before it is told to give up.
func (g *gateway) limited(t *testing.T, entry string, want uint64) {
	t.Helper()
	if e := g.entry(t, entry); e.LimitStopped < want || e.LimitStopped > 2*want || e.LeaksStopped != 0 {
		t.Errorf("status counts %+v, want %d packets over the limit", e, want)
	}
}

// A host opens so many connections at once and no more; another host has its
// own. A place is free as soon as a connection ends, whatever its conntrack
// entry waits for.
func TestLimitPerHost(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, zones+`
masquerade:
  - {name: few, from: lan, to: wan, max_connections: {per_host: 3}}
  - {name: rest, from: lan, to: dmz}
`)
	stopped := uint64(0)
	each(t, func(t *testing.T, ip family) {
		first := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		second := opens(t, g.LAN1, at(ip.outside, 22), ip.uplink)
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		together(tcp(g.LAN1, ip.outside, 80).drops(t), udp(g.LAN1, ip.outside, 123).drops(t), ping(g.LAN1, ip.outside).drops(t))
		stopped += 3
		g.limited(t, "masquerade few", stopped)
		carries(t, first)
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.gwDMZ) // another entry

		g.ends(t, second)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		fails(t, g.LAN1, at(ip.outside, 81), lab.IsTimeout)
		if err := first.Abort(); err != nil {
			t.Error(err)
		}
		g.Settle()
		pings(t, g.LAN1, ip.outside)
		stopped++
		g.limited(t, "masquerade few", stopped)
	})
	if e := g.entry(t, "masquerade few"); e.NewFlows != 12 {
		t.Errorf("status counts %+v, want 12 flows", e)
	}
	g.delete(t)
}

// A total is of all hosts, and of both families where the entry is.
func TestLimitTotal(t *testing.T) {
	v4, v6 := families()[0], families()[1]
	for name, c := range map[string]struct {
		family        string
		first, second family
	}{
		"IPv4":          {", family: ipv4", v4, v4},
		"IPv6":          {", family: ipv6", v6, v6},
		"both families": {"", v4, v6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limitTotal(t, c.family, c.first, c.second)
		})
	}
}

func limitTotal(t *testing.T, only string, v4, v6 family) {
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
masquerade:
  - {from: lan, to: wan`+only+`, max_connections: {total: 4, per_host: 3}, timeouts: {udp: {unreplied: 2s, replied: 2s}}}
`)
	const entry = "masquerade lan-wan"
	one := opens(t, g.LAN1, at(v4.outside, 80), v4.uplink)
	opens(t, g.LAN2, at(v4.outside, 80), v4.uplink)
	opens(t, g.LAN2, at(v6.outside, 80), v6.uplink)
	asks(t, g.LAN1, at(v6.outside, 53), v6.uplink)
	together(tcp(g.LAN1, v4.outside, 22).drops(t), tcp(g.LAN2, v4.outside, 22).drops(t),
		tcp(g.LAN1, v6.outside, 81).drops(t), tcp(g.LAN2, v6.outside, 81).drops(t))
	g.limited(t, entry, 4)
	if l := g.status(t).entry(t, entry).Limit; *l.Used < 3 || *l.Used > 4 { // the one by UDP ends by itself
		t.Errorf("%d of the limit are in use, want 4", *l.Used)
	}
	// A host's own limit is not used up by what the total stopped.
	g.ends(t, one)
	opens(t, g.LAN1, at(v6.outside, 80), v6.uplink)
	if c, err := g.LAN1.DialTCP(lab.Patience, at(v6.outside, 22)); err != nil {
		t.Errorf("no place after a flow of UDP has ended: %v", err)
	} else {
		defer c.Close()
	}
	fails(t, g.LAN2, at(v4.outside, 22), lab.IsTimeout)
	g.delete(t)
}

// A client that sends again is still one connection, and one that was refused
// is none.
func TestLimitCountsFlows(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := applied(t, topo, twoZones+"masquerade:\n"+
		eachFamily("  - {name: nat$n, family: $f, from: lan, to: wan, max_connections: {per_host: 2, total: 3}}\n"))
	// Nobody answers.
	g.ISP.Run(t, "nft", "add table inet silent; add chain inet silent out { type filter hook prerouting priority -300; }; add rule inet silent out meta l4proto { tcp, udp } drop")
	each(t, func(t *testing.T, ip family) {
		exactly := func(want uint64) {
			t.Helper()
			if e := g.entry(t, "masquerade nat"+ip.number()); e.LimitStopped != want {
				t.Errorf("status counts %+v, want %d packets over the limit", e, want)
			}
		}
		syn := func(src string, port uint16) []byte {
			return lab.TCP{Header: lab.Between(src, ip.outside), SrcPort: port, DstPort: 80, Flags: lab.SYN}.Bytes()
		}
		datagram := lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 7, DstPort: 53}.Bytes()
		g.LAN1.SendPacket("eth0", syn(ip.lan1, 1001), syn(ip.lan1, 1001), datagram, syn(ip.lan1, 1001), datagram, datagram)
		g.Settle()
		exactly(0)
		for range 3 {
			g.LAN1.SendPacket("eth0", syn(ip.lan1, 1002))
			g.Settle()
		}
		exactly(3)
		// Two are open: what was refused has taken no place in the total.
		seen := g.ISP.Capture("eth0", lab.All(lab.Incoming, ip.tcp))
		for _, port := range []uint16{1, 2} {
			g.LAN2.SendPacket("eth0", syn(ip.lan2, port))
		}
		g.Settle()
		if _, err := seen.Wait(1, lab.Patience); err != nil {
			t.Error(err)
		}
		exactly(4)
	})
	g.delete(t)
}

// Clients of a port forward are told apart by their own addresses, on every way
// to it.
func TestLimitPortForward(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.LAN1)
	g := applied(t, topo, zones+`
port_forward:
  - {name: v4, from: wan, protocol: [tcp, udp], ports: [53, 80, 8080-8090], to: 192.168.1.10, max_connections: {per_host: 2, total: 5}}
  - {name: v6, from: wan, protocol: [tcp, udp], ports: [53, 80, 8080-8090], to: "fd00:1::10", max_connections: {per_host: 2, total: 5}}
  - {name: free, from: wan, protocol: tcp, ports: 2222, to: "192.168.1.10:22"}
`)
	each(t, func(t *testing.T, ip family) {
		name := "port_forward v4"
		if ip.v6() {
			name = "port_forward v6"
		}
		first := opens(t, g.Server, at(ip.uplink, 80), ip.outside)
		asks(t, g.Server, at(ip.uplink, 53), ip.outside)
		together(tcp(g.Server, ip.uplink, 80).drops(t), udp(g.Server, ip.uplink, 53).drops(t))
		g.limited(t, name, 2)
		opens(t, g.Neighbor, at(ip.uplink, 80), ip.neighbor)
		// Hairpin: of another network, of the target's own, and of the gateway.
		opens(t, g.DMZ, at(ip.uplink, 80), ip.dmz)
		last := opens(t, g.LAN2, at(ip.uplink, 80), ip.gwLAN)
		together(tcp(g.GW, ip.uplink, 80).drops(t), tcp(g.LAN2, ip.uplink, 80).drops(t), tcp(g.Neighbor, ip.uplink, 80).drops(t))
		g.limited(t, name, 5)
		g.ends(t, last)
		if c, err := g.GW.DialTCP(lab.Patience, at(ip.uplink, 80)); err != nil {
			t.Errorf("the gateway itself: %v", err)
		} else {
			defer c.Close()
		}
		carries(t, first)
		if !ip.v6() {
			opens(t, g.Server, at(ip.uplink, 2222), ip.outside)
		}
		if e := g.entry(t, name); e.NewFlows != 6 {
			t.Errorf("status counts %+v, want 6 flows", e)
		}
	})
	g.delete(t)
}

// A rule's limit is of what the rule lets pass. A flow that has begun is not
// counted again, and not stopped, while nobody answers it.
func TestLimitRule(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	answering(topo.DMZ, topo.GW)
	g := applied(t, topo, zones+"forward:\n  rules:\n"+
		eachFamily("    - {name: few$n, family: $f, from: lan, to: dmz, protocol: [tcp, udp], action: accept, max_connections: {per_host: 2, total: 3}}\n")+`
    - {name: pings, from: lan, to: dmz, action: accept}
input:
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept, max_connections: {per_host: 1}}
`)
	each(t, func(t *testing.T, ip family) {
		few := "forward few" + ip.number()
		first := opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		listening := g.DMZ.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP))
		one, err := g.LAN1.DialUDP(at(ip.dmz, 999), lab.From(":999"))
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		g.DMZ.Run(t, "nft", "add table inet silent; add chain inet silent in { type filter hook input priority 0; }; add rule inet silent in udp dport 999 drop")
		for range 5 {
			if err := one.Send("one way"); err != nil {
				t.Error(err)
			}
		}
		if _, err := listening.Wait(5, lab.Patience); err != nil {
			t.Errorf("a flow that nobody answers: %v", err)
		}
		together(tcp(g.LAN1, ip.dmz, 80).drops(t), udp(g.LAN1, ip.dmz, 53).drops(t))
		pings(t, g.LAN1, ip.dmz)
		other := opens(t, g.LAN2, at(ip.dmz, 80), ip.lan2)
		fails(t, g.LAN2, at(ip.dmz, 80), lab.IsTimeout)
		if err := one.Send("still"); err != nil {
			t.Error(err)
		}
		if _, err := listening.Wait(6, lab.Patience); err != nil {
			t.Errorf("a flow that nobody answers: %v", err)
		}
		g.limited(t, few, 3)
		g.ends(t, first)
		g.ends(t, other)
		last := opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		g.ends(t, last)

		opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		fails(t, g.LAN1, at(ip.gwLAN, 22), lab.IsTimeout)
		opens(t, g.LAN2, at(ip.gwLAN, 22), ip.lan2)
		g.GW.Run(t, "conntrack", "-D", "-p", "udp", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[ip.v6()])
		if e := g.entry(t, few); e.NewFlows != 4 {
			t.Errorf("status counts %+v, want 4 flows", e)
		}
	})
	g.delete(t)
}

// Open connections are remembered when the policy changes.
func TestLimitRemembers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server)
	masquerade := func(more string) string {
		return zones + "masquerade:\n" + eachFamily("  - {name: nat$n, family: $f, from: lan, to: wan, max_connections: {per_host: 2, total: 3}"+more+"}\n")
	}
	policy := masquerade("")
	g := applied(t, topo, policy)
	if g.variant == "iptables-legacy" {
		g.nftablesOnly(t, "with the legacy variant a commit begins anew what its rules remember")
	}
	each(t, func(t *testing.T, ip family) {
		g.apply(t, policy)
		first := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
		for _, more := range []string{
			"forward: {rules: [{from: lan, to: dmz, action: accept}]}\n",
			"port_forward: [{from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}]\n",
			"",
		} {
			g.apply(t, policy+more)
			together(tcp(g.LAN1, ip.outside, 80).drops(t), tcp(g.LAN2, ip.outside, 80).drops(t))
			carries(t, first)
		}
		if g.variant != "" {
			return // iptables begins anew with a chain that is another
		}
		// The entry itself is another, with the same limits: its chain is filled anew.
		g.apply(t, masquerade(", outside_ports: 20000-65535, log: {group: 7}"))
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
		g.ends(t, first)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
	})
	g.delete(t)
}
