package foreign

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// written is a rule that both iptables and nft can have.
type written struct {
	in, out, src, dst          string // a leading ! is not; a last + is all that begin so
	proto                      string
	low, high                  int // destination ports
	state, kind, verdict, jump string
}

// random gives a rule of a chain that may jump to some others.
func random(r *rand.Rand, v6 bool, jumps []string) (w written) {
	maybe := func(of int, list ...string) string {
		if r.IntN(of) != 0 {
			return ""
		}
		not := ""
		if r.IntN(4) == 0 {
			not = "!"
		}
		return not + list[r.IntN(len(list))]
	}
	w.in = maybe(3, "eth1", "eth0", "eth+", "docker0")
	w.out = maybe(3, "eth0", "eth1", "e+")
	if v6 {
		w.src, w.dst = maybe(3, "fd00:1::/64", "fd00:1::10", "fd00:1::8/126"), maybe(4, lab.Outsidev6, "2001:db8:100::/40")
	} else {
		w.src, w.dst = maybe(3, "192.168.1.0/24", "192.168.1.10", "192.168.1.8/30", "192.168.0.0/17"), maybe(4, lab.Outside, "198.51.100.0/25")
	}
	if r.IntN(2) == 0 {
		w.proto = []string{"tcp", "udp"}[r.IntN(2)]
		if r.IntN(2) == 0 {
			w.low = []int{22, 80, 1000}[r.IntN(3)]
			w.high = w.low + []int{0, 0, 400}[r.IntN(3)]
		}
	}
	if r.IntN(5) == 0 {
		w.state = []string{"new", "established,related", "invalid"}[r.IntN(3)]
	}
	if r.IntN(8) == 0 {
		w.kind = []string{"local", "unicast"}[r.IntN(2)]
	}
	w.verdict = []string{"accept", "drop", "reject", "return", "", "accept"}[r.IntN(6)]
	if len(jumps) > 0 && r.IntN(2) == 0 {
		w.verdict, w.jump = []string{"jump", "goto"}[r.IntN(2)], jumps[r.IntN(len(jumps))]
	}
	return w
}

func (w written) xt() string {
	var out []string
	add := func(flag, value string) {
		if rest, not := strings.CutPrefix(value, "!"); not {
			out = append(out, "!", flag, rest)
		} else if value != "" {
			out = append(out, flag, value)
		}
	}
	add("-i", w.in)
	add("-o", w.out)
	add("-s", w.src)
	add("-d", w.dst)
	add("-p", w.proto)
	if w.low > 0 {
		out = append(out, "-m", w.proto, "--dport", fmt.Sprintf("%d:%d", w.low, w.high))
	}
	if w.state != "" {
		out = append(out, "-m", "conntrack", "--ctstate", strings.ToUpper(w.state))
	}
	if w.kind != "" {
		out = append(out, "-m", "addrtype", "--dst-type", strings.ToUpper(w.kind))
	}
	switch w.verdict {
	case "":
	case "jump":
		out = append(out, "-j", w.jump)
	case "goto":
		out = append(out, "-g", w.jump)
	default:
		out = append(out, "-j", strings.ToUpper(w.verdict))
	}
	return strings.Join(out, " ")
}

func (w written) nft(v6 bool) string {
	var out []string
	add := func(key, value string) {
		if value == "" {
			return
		}
		not := ""
		if rest, is := strings.CutPrefix(value, "!"); is {
			not, value = "!= ", rest
		}
		if strings.HasSuffix(value, "+") || strings.HasPrefix(key, "iif") || strings.HasPrefix(key, "oif") {
			value = fmt.Sprintf("%q", strings.Replace(value, "+", "*", 1))
		}
		out = append(out, key+" "+not+value)
	}
	ip := "ip"
	if v6 {
		ip = "ip6"
	}
	add("iifname", w.in)
	add("oifname", w.out)
	add(ip+" saddr", w.src)
	add(ip+" daddr", w.dst)
	switch {
	case w.low > 0 && w.low == w.high:
		out = append(out, fmt.Sprintf("%s dport %d", w.proto, w.low))
	case w.low > 0:
		out = append(out, fmt.Sprintf("%s dport %d-%d", w.proto, w.low, w.high))
	case w.proto != "":
		out = append(out, "meta l4proto "+w.proto)
	}
	if w.state != "" {
		out = append(out, "ct state "+w.state)
	}
	if w.kind != "" {
		out = append(out, "fib daddr type "+w.kind)
	}
	return strings.Join(append(out, "counter", w.verdict, w.jump), " ")
}

// ruleset is three chains: forward may lead to a, and both to b.
type ruleset struct {
	drops  bool
	chains [3][]written
}

var chainNames = [3]string{"FORWARD", "a", "b"}

func randomRules(r *rand.Rand, v6 bool) (s ruleset) {
	s.drops = r.IntN(2) == 0
	for i := range s.chains {
		for range 1 + r.IntN(4) {
			s.chains[i] = append(s.chains[i], random(r, v6, chainNames[i+1:]))
		}
	}
	return s
}

func (s ruleset) text(kind Kind, v6 bool) string {
	policy := map[bool]string{true: "DROP", false: "ACCEPT"}[s.drops]
	var b strings.Builder
	if kind != NFT {
		b.WriteString("*filter\n:FORWARD " + policy + " [0:0]\n:a - [0:0]\n:b - [0:0]\n")
		for i, rules := range s.chains {
			for _, w := range rules {
				b.WriteString("-A " + chainNames[i] + " " + w.xt() + "\n")
			}
		}
		return b.String() + "COMMIT\n"
	}
	b.WriteString("table inet t\nflush ruleset\ntable inet t {\n")
	for i := len(s.chains) - 1; i >= 0; i-- {
		b.WriteString(" chain " + chainNames[i] + " {\n")
		if i == 0 {
			b.WriteString("  type filter hook forward priority 0; policy " + strings.ToLower(policy) + ";\n")
		}
		for _, w := range s.chains[i] {
			b.WriteString("  " + w.nft(v6) + "\n")
		}
		b.WriteString(" }\n")
	}
	return b.String() + "}\n"
}

// TestAgainstTheKernel has random rules and packets: what is said of a packet of
// which all is known is what the kernel does.
func TestAgainstTheKernel(t *testing.T) {
	const rounds = 15
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("iptables-legacy-restore"), lab.Binary("ip6tables-legacy-restore"), lab.Binary("iptables-nft-restore"), lab.Binary("ip6tables-nft-restore"))
	for _, kind := range []Kind{NFT, XTNFT, XTLegacy} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s IPv6 %v", kind, v6), func(t *testing.T) {
				t.Parallel()
				o := newOracle(t, kind, v6)
				stopped := 0
				for seed := range rounds {
					stopped += o.round(t, uint64(seed))
				}
				if all := rounds * len(o.packets); stopped < all/10 || stopped > all*9/10 {
					t.Errorf("%d of %d packets are stopped: the rules say too little", stopped, all)
				}
			})
		}
	}
}

type oracle struct {
	topo    *lab.Topology
	kind    Kind
	v6      bool
	seen    *lab.Capture
	port    uint16
	packets []Packet
}

func newOracle(t *testing.T, kind Kind, v6 bool) *oracle {
	o := &oracle{topo: lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest()), kind: kind, v6: v6, port: 20000}
	o.topo.Forwarding(true)
	o.seen = o.topo.GW.Capture("eth0", lab.Outgoing)
	sources, outside := []string{lab.LAN1, lab.LAN2, "192.168.1.99"}, lab.Outside
	if v6 {
		sources, outside = []string{lab.LAN1v6, lab.LAN2v6, "fd00:1::99"}, lab.Outsidev6
	}
	for _, source := range sources {
		for _, protocol := range []uint8{6, 17} {
			for _, port := range []uint16{22, 80, 1200} {
				o.packets = append(o.packets, Packet{In: "eth1", Out: "eth0", IPv6: v6, Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(outside),
					Protocol: protocol, DestinationPort: port, State: StateNew})
			}
		}
	}
	return o
}

// round makes rules, sends all packets, and compares. It gives how many were
// stopped.
func (o *oracle) round(t *testing.T, seed uint64) (stopped int) {
	t.Helper()
	rules := randomRules(rand.New(rand.NewPCG(seed, 7)), o.v6)
	text := rules.text(o.kind, o.v6)
	switch {
	case o.kind == NFT:
		o.topo.GW.Feed(t, text, "nft", "-f", "-")
	case o.v6:
		o.topo.GW.Feed(t, text, strings.Replace(string(o.kind), "iptables", "ip6tables", 1)+"-restore")
	default:
		o.topo.GW.Feed(t, text, string(o.kind)+"-restore")
	}
	read := readOf(t, o.topo.GW)
	base := read.Base(o.v6, Forward)
	if len(base) != 1 {
		t.Fatalf("%d chains at forward\n%s", len(base), read.text())
	}
	o.seen.Reset()
	ports := make([]uint16, len(o.packets))
	for i := range o.packets {
		o.port++
		ports[i] = o.port
		p := &o.packets[i]
		header := lab.Between(p.Source.String(), p.Destination.String())
		if p.Protocol == 6 {
			o.topo.LAN1.SendPacket("eth0", lab.TCP{Header: header, SrcPort: o.port, DstPort: p.DestinationPort, Flags: lab.SYN, Seq: 1}.Bytes())
		} else {
			o.topo.LAN1.SendPacket("eth0", lab.UDP{Header: header, SrcPort: o.port, DstPort: p.DestinationPort, Payload: []byte("x")}.Bytes())
		}
	}
	o.seen.Sync()
	passed := o.seen.Packets()
	for i := range o.packets {
		through := slices.ContainsFunc(passed, func(p lab.Packet) bool { return p.SrcPort == ports[i] && p.Proto == o.packets[i].Protocol })
		out := base[0].Walk(&o.packets[i])
		if !through {
			stopped++
		}
		if certain := out.Stopped() != nil || out.MayStop() == nil; !certain || (out.Stopped() == nil) != through {
			t.Errorf("seed %d: %+v goes through: %v, and it is said that it may be accepted: %v, stopped: %v\n%s\nread as\n%s",
				seed, o.packets[i], through, out.Accept != nil, out.MayStop() != nil, text, read.text())
			return stopped
		}
	}
	return stopped
}
