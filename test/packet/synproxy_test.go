package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// proxied is a policy with servers behind a synproxy.
const proxied = zones + `
forward:
  rules:
    - {name: banned, from: wan, to: dmz, sources: [203.0.113.77, "2001:db8:113::77"], action: drop}
    - {name: web, from: wan, to: dmz, protocol: tcp, ports: [80, 9000], action: accept, synproxy: true}
    - {name: plain, from: [lan, wan], to: dmz, action: accept}
`

const loose = "net.netfilter.nf_conntrack_tcp_loose"

// tcpOptions gives the segment size and window scale of a SYN; -1 where there
// is none.
func tcpOptions(t *testing.T, p lab.Packet) (mss, scale int) {
	t.Helper()
	mss, scale = -1, -1
	at := 40
	if p.Src.Is4() {
		at = int(p.IP[0]&15) * 4
	}
	h := p.IP[at:]
	options := h[20 : int(h[12]>>4)*4]
	for len(options) > 0 {
		switch kind := options[0]; {
		case kind == 0:
			return mss, scale
		case kind == 1:
			options = options[1:]
			continue
		case kind == 2:
			mss = int(binary.BigEndian.Uint16(options[2:]))
		case kind == 3:
			scale = int(options[2])
		}
		options = options[options[1]:]
	}
	return mss, scale
}

// tracked counts the gateway's conntrack entries.
func (g *gateway) tracked(t *testing.T) string {
	t.Helper()
	return g.GW.GetSysctl("net.netfilter.nf_conntrack_count")
}

// opensHalf sends SYNs from as many addresses of the server's network, and hears no
// answers. They come from sockets: the kernel's synproxy takes IPv6 only where
// the checksum has been seen to before it (nft_synproxy_do_eval computes that
// of IPv4), which is so of what a host on a veth sends and a packet socket does not.
func opensHalf(t *testing.T, h *lab.Host, ip family, n int) {
	t.Helper()
	domain, l3, forged := unix.AF_INET, "ip", "198.51.100.128/25"
	if ip.v6() {
		domain, l3, forged = unix.AF_INET6, "ip6", "2001:db8:100:0:f::/80"
	}
	h.Route(forged, "local dev lo")
	h.Feed(t, fmt.Sprintf("table inet deaf%s {\n chain input {\n type filter hook input priority 0\n %s daddr %s drop\n }\n}\n", l3, l3, forged), "nft", "-f", "-")
	err := h.Do(func() error {
		for i := range n {
			fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			source := netip.MustParsePrefix(forged).Addr().AsSlice()
			source[len(source)-1] |= byte(1 + i%100)
			port, to := 2000+i, netip.MustParseAddr(ip.dmz)
			var from, target unix.Sockaddr
			if ip.v6() {
				from, target = &unix.SockaddrInet6{Port: port, Addr: [16]byte(source)}, &unix.SockaddrInet6{Port: 80, Addr: to.As16()}
			} else {
				from, target = &unix.SockaddrInet4{Port: port, Addr: [4]byte(source)}, &unix.SockaddrInet4{Port: 80, Addr: to.As4()}
			}
			if ip.v6() {
				err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			}
			if err == nil {
				err = unix.Bind(fd, from)
			}
			if err == nil {
				err = unix.Connect(fd, target)
			}
			unix.Close(fd)
			if !errors.Is(err, unix.EINPROGRESS) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A flood of SYNs reaches no server and leaves nothing behind.
func TestSynproxyFlood(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, proxied)
	each(t, func(t *testing.T, ip family) {
		const flood = 1000
		arrived := g.DMZ.Count("eth0", lab.All(lab.Incoming, ip.tcp))
		answered := g.GW.Count("eth0", lab.All(lab.Outgoing, lab.HasFlags(lab.SYN|lab.ACK)))
		before := g.tracked(t)
		opensHalf(t, g.Server, ip, flood)
		g.Settle()
		arrived.Sync()
		if n := arrived.Count(); n != 0 {
			t.Errorf("%d packets of the flood reached the server", n)
		}
		if answered.Count() != flood {
			t.Errorf("the gateway answered %d of %d", answered.Count(), flood)
		}
		if after := g.tracked(t); after != before {
			t.Errorf("conntrack has %s entries, and had %s", after, before)
		}
		// What completes no handshake gets no further either.
		for _, flags := range []lab.TCPFlags{lab.ACK, lab.ACK | lab.PSH, lab.SYN | lab.ACK, lab.RST, lab.FIN | lab.ACK} {
			g.Server.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.outside, ip.dmz), SrcPort: 4000, DstPort: 80, Flags: flags, Seq: 7, Ack: 9}.Bytes())
		}
		g.Settle()
		arrived.Sync()
		if n := arrived.Count(); n != 0 {
			t.Errorf("%d forged packets reached the server", n)
		}
	})
	g.delete(t)
}

// A real client connects, after which the connection is as any other.
func TestSynproxyConnects(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	topo.DMZ.ServeTCP(":9000", lab.ServeBytes(1<<20))
	// It needs neither of what handbooks name beside tcp_loose.
	topo.GW.Sysctl("net.ipv4.tcp_syncookies", "0")
	topo.GW.Sysctl("net.ipv4.tcp_timestamps", "0")
	g := untouched(t, topo)
	was := g.GW.GetSysctl(loose)
	g.apply(t, proxied)
	if now := g.GW.GetSysctl(loose); now != "0" || was == "0" {
		t.Errorf("%s was %s and is %s", loose, was, now)
	}
	each(t, func(t *testing.T, ip family) {
		outer := g.GW.Capture("eth0", ip.tcp)
		inner := g.GW.Capture("eth2", ip.tcp)
		c := opens(t, g.Server, at(ip.dmz, 80), ip.outside)
		carries(t, c)
		g.Settle()
		handshake(t, outer, inner)
		if err := c.Echo(lab.Patience, strings.Repeat("there and back, ", 1<<16)); err != nil {
			t.Error(err)
		}
		if d := opens(t, g.Server, at(ip.dmz, 9000), ip.outside); d != nil {
			if n, err := d.Download(lab.Patience); err != nil || n != 1<<20 {
				t.Errorf("downloaded %d bytes, %v", n, err)
			}
		}
		opens(t, g.Neighbor, at(ip.dmz, 80), ip.neighbor)
		fails(t, g.Server, at(ip.dmz, 4444), lab.IsRefused)
		g.apply(t, proxied+"    - {name: more, from: lan, to: wan, action: accept}\n")
		carries(t, c)
		g.apply(t, proxied)
		carries(t, c)
	})
	if e := g.entry(t, "forward web"); e.NewFlows != 6 {
		t.Errorf("status counts %+v, want 6 flows", e)
	}
	g.apply(t, zones) // conntrack is strict as long as a rule needs it
	if now := g.GW.GetSysctl(loose); now != was {
		t.Errorf("%s is %s without synproxy", loose, now)
	}
	g.apply(t, proxied)
	g.delete(t)
	if now := g.GW.GetSysctl(loose); now != was {
		t.Errorf("%s is %s after delete", loose, now)
	}
}

// handshake sees that the server was sent a SYN after the client had completed
// its own handshake, and what each was told.
func handshake(t *testing.T, outer, inner *lab.Capture) {
	t.Helper()
	out, in := outer.Packets(), inner.Packets()
	if len(out) < 3 || len(in) < 3 {
		t.Errorf("%s\n%s", outer, inner)
		return
	}
	syn, answer, ack, opening := out[0], out[1], out[2], in[0]
	if syn.Flags != lab.SYN || answer.Flags != lab.SYN|lab.ACK || !answer.Outgoing || ack.Flags != lab.ACK || opening.Flags != lab.SYN {
		t.Errorf("%s\n%s", outer, inner)
		return
	}
	if !opening.Time.After(ack.Time) || opening.From() != syn.From() || opening.To() != syn.To() {
		t.Errorf("the server was sent a SYN at %v, and the client answered at %v\n%s\n%s", opening.Time, ack.Time, outer, inner)
	}
	if mss, scale := tcpOptions(t, answer); mss != 1460 || scale != 7 {
		t.Errorf("the client was told an MSS of %d and a window scale of %d", mss, scale)
	}
	wantMSS, wantScale := tcpOptions(t, syn)
	if mss, scale := tcpOptions(t, opening); mss > wantMSS || mss < 1220 || scale != wantScale {
		t.Errorf("the server was told an MSS of %d and a window scale of %d, and the client said %d and %d", mss, scale, wantMSS, wantScale)
	}
}

// What the rule does not match is not touched.
func TestSynproxyOthers(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ, topo.LAN1)
	g := applied(t, topo, proxied)
	each(t, func(t *testing.T, ip family) {
		answers := g.GW.Capture("eth1", lab.All(lab.Outgoing, lab.HasFlags(lab.SYN|lab.ACK)))
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.Server, at(ip.dmz, 22), ip.outside) // the rule behind it
		asks(t, g.Server, at(ip.dmz, 53), ip.outside)
		fails(t, g.Server, at(ip.lan1, 80), lab.IsTimeout)
		g.Settle()
		if p := answers.Packets(); len(p) != 1 || p[0].TTL != 63 {
			t.Errorf("the gateway answered: %s", answers)
		}
		banned, prefix := "203.0.113.77", "/24"
		if ip.v6() {
			banned, prefix = "2001:db8:113::77", "/64"
		}
		g.Neighbor.Addr("eth0", banned+prefix)
		fails(t, g.Neighbor, at(ip.dmz, 80), lab.IsTimeout, lab.From(banned))
	})
	if e := g.entry(t, "forward banned"); e.RefusedPackets == 0 {
		t.Errorf("status counts %+v", e)
	}
	g.delete(t)
}

// A server that a SYN did not reach is sent another when the client says
// something.
func TestSynproxyServerLate(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("nft"))
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, proxied)
	topo.DMZ.Feed(t, `table inet late {
	set seen { type inet_service; flags dynamic; size 128; }
	chain input {
		type filter hook input priority 0
		tcp dport 80 tcp flags syn / syn,ack tcp sport != @seen add @seen { tcp sport } drop
	}
}
`, "nft", "-f", "-")
	each(t, func(t *testing.T, ip family) {
		syns := g.DMZ.Count("eth0", lab.All(lab.Incoming, lab.HasFlags(lab.SYN)))
		c, err := g.Server.DialTCP(lab.Patience, at(ip.dmz, 80), lab.NoGreeting())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := errors.Join(c.SetDeadline(time.Now().Add(lab.Patience)), say(c)); err != nil {
			t.Error(err)
		}
		syns.Sync()
		if syns.Count() < 2 {
			t.Errorf("the server was sent %d SYNs", syns.Count())
		}
	})
	g.delete(t)
}

// say writes first, and reads something.
func say(c *lab.Conn) error {
	_, err := c.Write([]byte("hello"))
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	return err
}

// waits opens a connection that the gateway completes, and no server.
func waits(t *testing.T, h *lab.Host, remote string) {
	t.Helper()
	c, err := h.DialTCP(lab.Patience, remote, lab.NoGreeting())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Abort()
	_ = c.SetReadDeadline(time.Now().Add(lab.Silence))
	if n, err := c.Read(make([]byte, 1)); !lab.IsTimeout(err) {
		t.Errorf("%s opens %s: read %d bytes, %v", h.Name(), remote, n, err)
	}
}

// Limits count connections, and not SYNs.
func TestSynproxyLimits(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+"forward:\n  rules:\n"+
		eachFamily("    - {name: web$n, family: $f, from: wan, to: dmz, protocol: tcp, ports: 80, action: accept, synproxy: true, max_connections: {per_host: 2, total: 3}, log: true}\n"))
	each(t, func(t *testing.T, ip family) {
		var open []*lab.Conn
		for range 2 {
			open = append(open, opens(t, g.Server, at(ip.dmz, 80), ip.outside))
		}
		waits(t, g.Server, at(ip.dmz, 80))
		open = append(open, opens(t, g.Neighbor, at(ip.dmz, 80), ip.neighbor))
		waits(t, g.Neighbor, at(ip.dmz, 80))
		for _, c := range open {
			if carries(t, c); c != nil {
				c.Abort()
			}
		}
	})
	g.delete(t)
}

// The gateway's own ports can be behind a synproxy too.
func TestSynproxyInput(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.GW)
	g := applied(t, topo, zones+`
input:
  rules:
    - {name: web, from: wan, protocol: tcp, ports: 80, action: accept, synproxy: true}
    - {name: ssh, from: wan, protocol: tcp, ports: 22, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		before := g.tracked(t)
		for i := range 100 {
			g.ISP.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.outside, ip.uplink), SrcPort: uint16(2000 + i), DstPort: 80, Flags: lab.SYN}.Bytes())
		}
		g.Settle()
		if after := g.tracked(t); after != before {
			t.Errorf("conntrack has %s entries, and had %s", after, before)
		}
		c := opens(t, g.Server, at(ip.uplink, 80), ip.outside)
		carries(t, c)
		if c != nil {
			if err := c.Echo(lab.Patience, strings.Repeat("there and back, ", 1<<14)); err != nil {
				t.Error(err)
			}
		}
		opens(t, g.Server, at(ip.uplink, 22), ip.outside)
		fails(t, g.Server, at(ip.uplink, 81), lab.IsTimeout)
	})
	g.delete(t)
}

// Servers known by their addresses alone, that are masqueraded on their own way
// out: what the gateway says in their place is no leak.
func TestSynproxyGuard(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutGuest())
	answering(topo.DMZ, topo.Server)
	g := applied(t, topo, `
zones:
  dmz: {networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0], networks: [198.51.100.0/24, "2001:db8:100::/64"]}
masquerade:
  - {from: dmz, to: wan}
forward:
  rules:
    - {name: web, from: wan, to: dmz, protocol: tcp, ports: 80, action: accept, synproxy: true}
`)
	each(t, func(t *testing.T, ip family) {
		carries(t, opens(t, g.Server, at(ip.dmz, 80), ip.outside))
		opens(t, g.DMZ, at(ip.outside, 80), ip.uplink)
	})
	if e := g.entry(t, "masquerade dmz-wan"); e.LeaksStopped != 0 {
		t.Errorf("status counts %+v", e)
	}
	g.delete(t)
}
