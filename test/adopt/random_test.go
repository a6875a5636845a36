package adopt

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/adopt"
	"github.com/ipmasq/ipmasq/test/lab"
)

var rulesets = flag.Int("rulesets", 12, "how many random rulesets are compared")

// generator writes rules as people might, and as nobody would.
type generator struct {
	*rand.Rand
	chains []string
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func of[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) not() string {
	if g.chance(12) {
		return "! "
	}
	return ""
}

func (g *generator) inside(six bool) string {
	if six {
		return of(g, "fd00:1::/64", "fd00:2::10/128", "fd00:1::77/128", "fd00::/16")
	}
	return of(g, "192.168.1.0/24", "192.168.2.0/24", "192.168.1.10/32", "192.168.2.10/32", "192.168.0.0/16", "10.9.0.0/16", "192.168.1.64/26")
}

func (g *generator) outside(six bool) string {
	if six {
		return of(g, "2001:db8:113::/64", "2600::/16")
	}
	return of(g, "203.0.113.0/24", "198.51.100.7/32", "8.8.8.8/32", "10.0.0.0/8", "198.51.100.0/24")
}

// match writes some tests.
func (g *generator) match(six, out bool) string {
	var b strings.Builder
	links := []string{"eth0", "eth0", "eth1", "eth1", "eth2", "ppp0", "ppp+", "eth3"}
	if g.chance(20) {
		fmt.Fprintf(&b, "%s-s %s ", g.not(), of(g, g.inside(six), g.outside(six)))
	}
	if g.chance(20) {
		fmt.Fprintf(&b, "%s-d %s ", g.not(), of(g, g.inside(six), g.outside(six)))
	}
	if g.chance(50) {
		fmt.Fprintf(&b, "%s-i %s ", g.not(), of(g, links...))
	}
	if out && g.chance(45) {
		fmt.Fprintf(&b, "%s-o %s ", g.not(), of(g, links...))
	}
	switch n := g.IntN(100); {
	case n < 30:
		p := of(g, "tcp", "tcp", "udp")
		fmt.Fprintf(&b, "-p %s -m %s %s--dport %s ", p, p, g.not(), of(g, "22", "25", "53", "80", "443", "8000:8010"))
	case n < 38:
		fmt.Fprintf(&b, "-p tcp -m multiport --dports %s ", of(g, "80,443", "25,465,587", "22,8000:8010"))
	case n < 41:
		b.WriteString("-p udp -m udp --sport 53 ")
	case n < 47 && !six:
		b.WriteString("-p icmp -m icmp --icmp-type 8 ")
	case n < 47:
		b.WriteString("-p ipv6-icmp -m icmp6 --icmpv6-type 128 ")
	case n < 52:
		fmt.Fprintf(&b, "%s-p %s ", g.not(), of(g, "tcp", "udp", "47"))
	}
	if g.chance(12) {
		fmt.Fprintf(&b, "-m conntrack --ctstate %s ", of(g, "NEW", "NEW,ESTABLISHED", "INVALID", "NEW,RELATED", "INVALID,NEW"))
	}
	return b.String()
}

// filter writes the table of one family.
func (g *generator) filter(b *strings.Builder, six bool) {
	b.WriteString("*filter\n")
	fmt.Fprintf(b, ":INPUT %s [0:0]\n:FORWARD %s [0:0]\n:OUTPUT ACCEPT [0:0]\n", of(g, "ACCEPT", "DROP"), of(g, "ACCEPT", "DROP", "DROP"))
	g.chains = nil
	for i := range g.IntN(4) {
		g.chains = append(g.chains, fmt.Sprint("c", i))
		fmt.Fprintf(b, ":c%d - [0:0]\n", i)
	}
	for _, chain := range []string{"INPUT", "FORWARD"} {
		if chain == "INPUT" {
			b.WriteString("-A INPUT -i lo -j ACCEPT\n")
		}
		for range g.IntN(2) {
			g.rule(b, chain, six, chain == "FORWARD", 0)
		}
		switch {
		case g.chance(75):
			fmt.Fprintf(b, "-A %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", chain)
		case chain == "FORWARD" && g.chance(60):
			b.WriteString("-A FORWARD -i eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n")
		}
		for range 2 + g.IntN(6) {
			g.rule(b, chain, six, chain == "FORWARD", 0)
		}
	}
	for i, c := range g.chains {
		for range 1 + g.IntN(4) {
			g.rule(b, c, six, false, i+1)
		}
	}
	b.WriteString("COMMIT\n")
}

func (g *generator) rule(b *strings.Builder, chain string, six, out bool, below int) {
	target := of(g, "ACCEPT", "ACCEPT", "ACCEPT", "DROP", "DROP", "REJECT", "LOG")
	do := "-j"
	if below < len(g.chains) && g.chance(30) {
		target = g.chains[below+g.IntN(len(g.chains)-below)]
		if g.chance(20) {
			do = "-g"
		}
	} else if below > 0 && g.chance(25) {
		target = "RETURN"
	}
	fmt.Fprintf(b, "-A %s %s%s %s\n", chain, g.match(six, out), do, target)
}

func (g *generator) nat(b *strings.Builder) {
	b.WriteString("*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n")
	for range g.IntN(4) {
		where := of(g, "-i eth0 ", "-i eth0 ", "-d 203.0.113.2/32 ", "-d 203.0.113.10/32 -i eth0 ", "-i eth1 ", "-m addrtype --dst-type LOCAL ", "! -i eth1 ", "-i eth1 ! -d 192.168.0.0/16 ")
		if g.chance(15) {
			where += "-s " + g.outside(false) + " "
		}
		port := of(g, "80", "443", "22", "8000:8010", "53")
		protocol := of(g, "tcp", "tcp", "udp")
		switch n := g.IntN(10); {
		case n < 6:
			fmt.Fprintf(b, "-A PREROUTING %s-p %s -m %s --dport %s -j DNAT --to-destination %s\n", where, protocol, protocol, port, of(g, "192.168.1.10", "192.168.2.10:8080", "192.168.1.11:22"))
		case n < 8:
			fmt.Fprintf(b, "-A PREROUTING %s-p %s -m %s --dport %s -j REDIRECT --to-ports %s\n", where, protocol, protocol, port, of(g, "3128", "53", "8080"))
		case n < 9:
			fmt.Fprintf(b, "-A PREROUTING %s-p %s -m %s --dport %s -j %s\n", where, protocol, protocol, port, of(g, "ACCEPT", "RETURN"))
		default:
			b.WriteString("-A PREROUTING -d 203.0.113.10/32 -i eth0 -j DNAT --to-destination 192.168.2.10\n")
			b.WriteString("-A POSTROUTING -s 192.168.2.10/32 -o eth0 -j SNAT --to-source 203.0.113.10\n")
		}
	}
	if g.chance(25) {
		fmt.Fprintf(b, "-A POSTROUTING -s 192.168.1.0/24 -d %s -j %s\n", of(g, "10.8.0.0/16", "192.168.2.0/24", "8.8.8.8/32"), of(g, "ACCEPT", "RETURN"))
	}
	for range 1 + g.IntN(2) {
		source := of(g, "", "-s 192.168.1.0/24 ", "-s 192.168.2.0/24 ", "! -d 10.0.0.0/8 ", "-p udp ")
		if g.chance(25) {
			fmt.Fprintf(b, "-A POSTROUTING %s-o eth0 -j SNAT --to-source 203.0.113.%s\n", source, of(g, "2", "10"))
			continue
		}
		fmt.Fprintf(b, "-A POSTROUTING %s-o %s -j MASQUERADE\n", source, of(g, "eth0", "eth0", "ppp0", "ppp+"))
	}
	b.WriteString("COMMIT\n")
}

// randomFiles gives the files of a random host.
func randomFiles(seed uint64) []adopt.Input {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 3))}
	var four, six strings.Builder
	if g.chance(85) {
		g.nat(&four)
	}
	g.filter(&four, false)
	in := []adopt.Input{{Name: "rules.v4", Text: []byte(four.String()), Format: adopt.IPTables}}
	if g.chance(50) {
		g.filter(&six, true)
		in = append(in, adopt.Input{Name: "rules.v6", Text: []byte(six.String()), Format: adopt.IP6Tables})
	}
	return in
}

// TestRandomRulesRead imports many random rulesets: each gives a policy that the
// language takes.
func TestRandomRulesRead(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		in := randomFiles(seed)
		if _, err := adopt.Import(in); err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, in[0].Text)
		}
	}
}

// TestRandomRules compares random rulesets with their imports in the kernel.
func TestRandomRules(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("iptables-restore"), lab.Binary("ip6tables-restore"))
	for i := range *rulesets {
		n := *seed*1000 + uint64(i)
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := newComparison(t, randomFiles(n), "")
			c.run(t, 180)
		})
	}
}
