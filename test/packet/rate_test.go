package packet

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// sends sends a datagram of a new flow for each source port, and sees how many
// arrive.
func (g *gateway) sends(t *testing.T, h *lab.Host, from, to string, port uint16, sources []uint16, arrive int) {
	t.Helper()
	arrived := g.DMZ.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP))
	var packets [][]byte
	for _, source := range sources {
		packets = append(packets, lab.UDP{Header: lab.Between(from, to), SrcPort: source, DstPort: port}.Bytes())
	}
	h.SendPacket("eth0", packets...)
	g.Settle()
	if got := len(arrived.Packets()); got != arrive {
		t.Errorf("%s sends %d datagrams to port %d: %d arrive, want %d", from, len(sources), port, got, arrive)
	}
}

// A rule with a rate matches that many new flows, and the next rule decides of
// the rest. What a flow sends after its first packet is not asked again.
func TestRate(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+"forward:\n  rules:\n"+eachFamily(`
    - {name: all$n, family: $f, from: lan, to: dmz, protocol: udp, ports: 1001, action: accept, rate: {limit: 1/hour, burst: 3}}
    - {name: default-burst$n, family: $f, from: lan, to: dmz, protocol: udp, ports: 1003, action: accept, rate: 1/hour}
    - {name: first-dropped$n, family: $f, from: lan, to: dmz, protocol: udp, ports: 1004, action: drop, rate: {limit: 1/day, burst: 1}}
    - {name: again$n, family: $f, from: lan, to: dmz, protocol: udp, ports: 1005, action: accept, rate: {limit: 2/second, burst: 1}}
`)+`
    - {name: each, from: lan, to: dmz, protocol: udp, ports: 1002, action: accept, rate: {limit: 1/hour, burst: 2, per: source}}
    - {name: then-let, from: lan, to: dmz, protocol: udp, ports: 1004, action: accept}
    - {name: web, from: lan, to: dmz, protocol: tcp, ports: 80, action: accept, rate: {limit: 1/hour, burst: 2, per: source}}
    - {name: rest, from: lan, to: dmz, protocol: tcp, action: reject}
`)
	each(t, func(t *testing.T, ip family) {
		// Of all together.
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1001, flows(100, 2), 2)
		g.sends(t, g.LAN2, ip.lan2, ip.dmz, 1001, flows(100, 2), 1)
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1001, flows(200, 5), 0)
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1001, []uint16{100, 101, 100, 101, 100}, 5)
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1003, flows(100, 9), 5)

		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1002, flows(100, 4), 2)
		g.sends(t, g.LAN2, ip.lan2, ip.dmz, 1002, flows(100, 1), 1)
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1002, flows(100, 4), 2)
		g.sends(t, g.LAN2, ip.lan2, ip.dmz, 1002, flows(101, 4), 1)

		conn := opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		fails(t, g.LAN1, at(ip.dmz, 80), lab.IsRefused)
		carries(t, conn)

		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1004, flows(100, 4), 3)
		g.sends(t, g.LAN1, ip.lan1, ip.dmz, 1004, flows(100, 4), 4)

		// The bucket fills again.
		arrived := g.DMZ.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP))
		begin, port := time.Now(), uint16(0)
		for ; len(arrived.Packets()) < 3 && time.Since(begin) < lab.Patience; port++ {
			g.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.dmz), SrcPort: 3000 + port, DstPort: 1005}.Bytes())
			g.Settle()
		}
		if took := time.Since(begin); took < 900*time.Millisecond || took > lab.Patience || port < 4 {
			t.Errorf("three flows at two a second passed after %s and %d attempts", took, port)
		}
		n := ip.number()
		for name, want := range map[string]uint64{"all" + n: 3, "default-burst" + n: 5, "again" + n: 3} {
			if e := g.entry(t, "forward "+name); e.NewFlows != want {
				t.Errorf("status counts %+v, want %d flows", e, want)
			}
		}
		if e := g.entry(t, "forward first-dropped"+n); e.RefusedPackets != 1 {
			t.Errorf("status counts %+v, want 1 packet", e)
		}
	})
	for name, want := range map[string]uint64{"each": 8, "then-let": 14, "web": 4} {
		if e := g.entry(t, "forward "+name); e.NewFlows != want {
			t.Errorf("status counts %+v, want %d flows", e, want)
		}
	}
	if e := g.entry(t, "forward rest"); e.RefusedPackets != 2 {
		t.Errorf("status counts %+v, want 2 packets", e)
	}
	t.Run("both families", func(t *testing.T) {
		g.apply(t, zones+"forward: {rules: [{name: all, from: lan, to: dmz, protocol: udp, action: accept, rate: {limit: 1/hour, burst: 3}}]}\n")
		v4, v6 := families()[0], families()[1]
		g.sends(t, g.LAN1, v4.lan1, v4.dmz, 1006, flows(100, 2), 2)
		g.sends(t, g.LAN2, v6.lan2, v6.dmz, 1006, flows(100, 2), 1)
		g.sends(t, g.LAN1, v4.lan1, v4.dmz, 1006, flows(200, 5), 0)
		if e := g.entry(t, "forward all"); e.NewFlows != 3 {
			t.Errorf("status counts %+v, want 3 flows", e)
		}
	})
	g.delete(t)
}

// flows are source ports, one after the other.
func flows(first, n uint16) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = first + uint16(i)
	}
	return out
}

// A source is forgotten when it could begin anew, and not before.
func TestRateForgets(t *testing.T) {
	for _, ip := range families() {
		t.Run(ip.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutGuest())
			g := applied(t, topo, zones+`
forward:
  rules:
    - {name: slow, from: lan, to: dmz, protocol: udp, action: accept, rate: {limit: 1/second, burst: 2, per: source}}
`)
			remembered := func() bool {
				if g.variant != "" {
					tables := map[bool]string{false: "ipt_hashlimit", true: "ip6t_hashlimit"}[ip.v6()]
					return strings.Contains(g.GW.Run(t, "sh", "-c", "cat /proc/self/net/"+tables+"/*"), netip.MustParseAddr(ip.lan1).StringExpanded()+":")
				}
				return strings.Contains(g.GW.Run(t, "nft", "list", "set", "inet", "ipmasq", "rate_forward_slow_by_source_"+map[bool]string{false: "v4", true: "v6"}[ip.v6()]+"_1_1_2"), ip.lan1)
			}
			begin := time.Now()
			g.sends(t, g.LAN1, ip.lan1, ip.dmz, 9, []uint16{1, 2, 3}, 2)
			if !remembered() {
				t.Error("the source is not remembered")
			}
			for remembered() {
				if time.Since(begin) > 2*lab.Patience {
					t.Fatal("the source is never forgotten")
				}
				time.Sleep(20 * time.Millisecond)
			}
			if after := time.Since(begin); after < 2*time.Second {
				t.Errorf("the source was forgotten after %s, when it could not send a whole burst yet", after)
			}
			g.delete(t)
		})
	}
}
