package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Packets of one burst. New flows cost a conntrack entry each.
const (
	newFlows    = 20000
	established = 100000
)

// road is a client, a gateway and a target, and one way of having the gateway
// send the client's packets on.
type road struct {
	name               string
	lab                *lab.Lab
	client, gw, target *lab.Host
	dst                string // where the client sends to
	port               uint16
	to                 string // where it arrives
	toPort             uint16
	flows              int // so far, so that each is new
	perNew, perPacket  sample
	lost               int
}

// packets measures what a packet costs, on the whole way from the client's
// socket to the target's interface, for the first packet of a flow and for
// those that follow.
func (b *bench) packets() {
	plain := b.road("plain routing, no rules", "192.168.1.2", 1000, "192.168.1.2", 1000, func(*road) {})
	conntrack := b.road("conntrack alone", "192.168.1.2", 1000, "192.168.1.2", 1000, func(r *road) {
		r.gw.Feed(b.tb, "table inet t { chain f { type filter hook forward priority 0; ct state established,related accept; accept\n }\n }\n", "nft", "-f", "-")
	})
	first, last := 0, many-1
	byHand := b.forwarded("hand-written map of 100000", last, func(r *road) { b.handWritten(r, many) })
	few := b.forwarded("ipmasq, 10 port forwards", 0, func(r *road) { b.ipmasqOn(r.gw, "apply", b.policy(10, false)) })
	firstOf := b.forwarded("ipmasq, forward 1 of 100000", first, func(r *road) { b.ipmasqOn(r.gw, "apply", b.policy(many, false)) })
	lastOf := b.forwarded("ipmasq, forward 100000 of 100000", last, func(r *road) { b.ipmasqOn(r.gw, "apply", b.policy(many, false)) })
	trusting := b.forwarded("the same, antispoof: false", 0, func(r *road) { b.ipmasqOn(r.gw, "apply", b.trusting(10)) })
	roads := []*road{plain, conntrack, byHand, few, trusting, firstOf, lastOf}
	var linear *road
	if _, err := exec.LookPath("iptables-legacy-restore"); err == nil {
		linear = b.forwarded("iptables (legacy), last of 1000 rules", 999, func(r *road) { b.linear(r, 1000) })
		roads = append(roads, linear)
	}
	for _, r := range roads {
		r.establish(b.tb)
	}
	for round := range b.rounds + 1 {
		for _, r := range roads {
			r.measure(b.tb, round > 0)
		}
	}
	t := newTable("one packet, from the client's socket to the target's interface, on one CPU",
		"road", "first of a flow", "of plain routing", "of a hand-written map", "established", "of plain routing", "lost")
	for _, r := range roads {
		t.row(r.name, ns(r.perNew.median()), fmt.Sprintf("x%.2f", r.perNew.over(plain.perNew)), fmt.Sprintf("x%.2f", r.perNew.over(byHand.perNew)),
			ns(r.perPacket.median()), fmt.Sprintf("x%.2f", r.perPacket.over(plain.perPacket)), r.lost)
	}
	t.Flush()
	fmt.Printf("first packet beside a hand-written map: %s\n", target(lastOf.perNew.over(byHand.perNew), 1.05))
	fmt.Printf("first packet, forward 100000 of 100000 beside one of 10: %s\n", target(lastOf.perNew.over(few.perNew), 1.1))
	fmt.Printf("first packet, forward 100000 beside forward 1: x%.2f\n", lastOf.perNew.over(firstOf.perNew))
	fmt.Printf("new flows a second on one CPU: %.0f through forward 1, %.0f through forward 100000\n",
		1e9/firstOf.perNew.median(), 1e9/lastOf.perNew.median())
	fmt.Printf("established packet beside plain routing: %s; without antispoof, which a hand-written map has not: %s\n",
		target(lastOf.perPacket.over(plain.perPacket), 1.3), target(trusting.perPacket.over(plain.perPacket), 1.3))
}

// trusting is the policy of n forwards that does not look for forged sources.
func (b *bench) trusting(n int) string {
	text, err := os.ReadFile(b.policy(n, false))
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	return b.write("trusting.yaml", bytes.Replace(text, []byte("192.168.1.0/24}"), []byte("192.168.1.0/24, antispoof: false}"), 1))
}

// forwarded is a road through port forward i of many (or of few: they start
// alike).
func (b *bench) forwarded(name string, i int, rules func(*road)) *road {
	port := i + 1
	if i >= many/4 {
		_, port = forward(i, many)
	}
	return b.road(name, "10.1.0.1", uint16(port), fmt.Sprintf("192.168.1.%d", 2+i%250), uint16(1000+i%60000), rules)
}

func (b *bench) road(name, dst string, port uint16, to string, toPort uint16, rules func(*road)) *road {
	r := &road{name: name, lab: b.lab, dst: dst, port: port, to: to, toPort: toPort}
	r.client, r.gw, r.target = b.host(), b.host(), b.host()
	b.lab.Link(r.client, "eth0", r.gw, "eth0")
	b.lab.Link(r.gw, "eth1", r.target, "eth0")
	r.client.Addr("eth0", "10.1.0.2/16")
	r.gw.Addr("eth0", "10.1.0.1/16")
	r.gw.Addr("eth1", "192.168.1.1/24")
	r.target.Addr("eth0", to+"/24")
	r.client.Route("default", "10.1.0.1")
	r.target.Route("default", "192.168.1.1")
	r.gw.Sysctl("net.ipv4.ip_forward", "1")
	rules(r)
	return r
}

// handWritten is what somebody who knows nftables would write for n forwards.
func (b *bench) handWritten(r *road, n int) {
	var text bytes.Buffer
	text.WriteString("table inet t {\n\tmap udp_forwards { type inet_service : ipv4_addr . inet_service; elements = { ")
	for _, proto := range []string{"udp", "tcp"} {
		if proto == "tcp" {
			text.WriteString(" } }\n\tmap tcp_forwards { type inet_service : ipv4_addr . inet_service; elements = { ")
		}
		for i := range n {
			if p, port := forward(i, n); p == proto {
				fmt.Fprintf(&text, "%d : 192.168.1.%d . %d,\n", port, 2+i%250, 1000+i%60000)
			}
		}
	}
	text.WriteString(" } }\n" +
		"\tchain pre { type nat hook prerouting priority -100; iifname eth0 fib daddr type local dnat ip to tcp dport map @tcp_forwards\n" +
		"\t\tiifname eth0 fib daddr type local dnat ip to udp dport map @udp_forwards\n\t}\n" +
		"\tchain filter_forward { type filter hook forward priority 0; policy drop; ct state established,related accept\n" +
		"\t\tct status dnat accept\n\t\tiifname eth1 oifname eth0 accept\n\t}\n" +
		"\tchain post { type nat hook postrouting priority 100; iifname eth1 oifname eth0 masquerade\n\t}\n}\n")
	r.gw.Feed(b.tb, text.String(), "nft", "-f", "-")
}

// linear is a rule for each forward, as port forwarding is mostly done.
func (b *bench) linear(r *road, n int) {
	var text bytes.Buffer
	text.WriteString("*nat\n")
	for i := range n {
		fmt.Fprintf(&text, "-A PREROUTING -p udp --dport %d -j DNAT --to-destination 192.168.1.%d:%d\n", i+1, 2+i%250, 1000+i%60000)
	}
	text.WriteString("-A POSTROUTING -s 192.168.1.0/24 -o eth0 -j MASQUERADE\nCOMMIT\n*filter\n-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n")
	r.gw.Feed(b.tb, text.String(), "iptables-legacy-restore")
}

// establish opens the flow whose packets are measured, and has the target drop
// what comes after, so that nothing but the road is measured.
func (r *road) establish(tb *lab.Program) {
	server := r.target.ServeUDP(fmt.Sprintf("%s:%d", r.to, r.toPort))
	seen, err := r.client.UDPExchange("10.1.0.2:7000", fmt.Sprintf("%s:%d", r.dst, r.port), "hello", lab.Patience)
	if err != nil || seen.Peer.String() != "10.1.0.2:7000" {
		tb.Fatalf("bench: %s: the flow does not get through: %v (the target saw %v)", r.name, err, seen)
	}
	server.Close()
	r.target.Feed(tb, "table inet t { counter got { }\n chain p { type filter hook prerouting priority -400; udp dport "+fmt.Sprint(r.toPort)+" counter name got drop\n }\n }\n", "nft", "-f", "-")
}

// arrived is how many packets the target has got. A counter is cheaper than a
// capture, which would be measured too.
func (r *road) arrived(tb *lab.Program) int {
	var answer struct {
		NFTables []struct {
			Counter struct{ Packets int }
		}
	}
	if err := json.Unmarshal([]byte(r.target.Run(tb, "nft", "-j", "list", "counter", "inet", "t", "got")), &answer); err != nil {
		tb.Fatalf("bench: nft -j list counter: %v", err)
	}
	n := 0
	for _, x := range answer.NFTables {
		n += x.Counter.Packets
	}
	return n
}

func (r *road) measure(tb *lab.Program, keep bool) {
	packet := func(src string, port uint16) []byte {
		return lab.UDP{Header: lab.Between(src, r.dst), SrcPort: port, DstPort: r.port, Payload: make([]byte, 64)}.Bytes()
	}
	before := r.arrived(tb)
	var fresh [][]byte
	sources := map[string]bool{}
	for range newFlows {
		r.flows++
		src := fmt.Sprintf("10.1.%d.3", 1+r.flows/60000)
		sources[src] = true
		fresh = append(fresh, packet(src, uint16(1024+r.flows%60000)))
	}
	if !keep {
		fresh = fresh[:1000]
	}
	took := r.client.Burst("eth0", fresh)
	again := make([][]byte, established)
	same := packet("10.1.0.2", 7000)
	for i := range again {
		again[i] = same
	}
	tookAgain := r.client.Burst("eth0", again)
	r.lab.Settle()
	if keep {
		r.lost += len(fresh) + len(again) - (r.arrived(tb) - before)
		r.perNew = append(r.perNew, float64(took)/float64(len(fresh)))
		r.perPacket = append(r.perPacket, float64(tookAgain)/float64(len(again)))
	}
	// The table is the machine's: flows of one road would slow down the next.
	if _, err := exec.LookPath("conntrack"); err == nil {
		for src := range sources {
			_, _ = r.gw.Try("conntrack", "-D", "-p", "udp", "-s", src)
		}
	}
}
