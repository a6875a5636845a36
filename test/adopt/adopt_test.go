// Package adopt proves imports: the rules that were imported are loaded on one
// gateway, the policy that import made of them is applied on another one, and
// both are sent the same packets. What differs has to be on the list of what
// import could not say.
package adopt

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/adopt"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/oracle"
)

var (
	seed    = flag.Uint64("seed", 1, "what packets are made from")
	packets = flag.Int("packets", 300, "how many connections are tried on each ruleset")
)

func TestMain(m *testing.M) { lab.Main(m) }

const corpus = "../../pkg/adopt/testdata"

// TestImport compares every ruleset of the corpus with its import.
func TestImport(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("iptables-restore"), lab.Binary("ip6tables-restore"))
	folders, err := os.ReadDir(corpus)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		// What is of ipmasq is left out of an import: the policy in force says it.
		if !f.IsDir() || f.Name() == "fuzz" || f.Name() == "ipmasq" {
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			t.Parallel()
			compare(t, filepath.Join(corpus, f.Name()))
		})
	}
}

// inputs are the files of a ruleset.
func inputs(t *testing.T, folder string) (in []adopt.Input) {
	t.Helper()
	for _, name := range []string{"ipsets", "rules.v4", "rules.v6", "rules.json"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err == nil {
			in = append(in, adopt.Input{Name: name, Text: text})
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return in
}

func compare(t *testing.T, folder string) {
	t.Helper()
	c := newComparison(t, inputs(t, folder), folder)
	c.run(t, *packets)
	if c.passed == 0 {
		t.Errorf("of %d connections none passed: nothing was compared", c.sent)
	}
	t.Logf("%d connections, %d passed, %d answers; %d differences that are listed (%s)", c.sent, c.passed, c.answers, c.listed, strings.Join(c.by, "; "))
}

// newComparison puts rules in force on one gateway, and their import on another
// one.
func newComparison(t *testing.T, in []adopt.Input, folder string) *comparison {
	t.Helper()
	imported, err := adopt.Import(in)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("policy.yaml", imported.Policy)
	if err != nil {
		t.Fatalf("%v\n%s", err, imported.Policy)
	}
	before, after := oracle.NewGateway(t), oracle.NewGateway(t)
	var text strings.Builder
	loaded := false
	for _, f := range in {
		text.Write(f.Text)
		switch f.Name {
		case "ipsets":
			// The kernel may have no ipset: the same rules in other words.
			feed(t, before, "nft", filepath.Join(folder, "loaded.nft"))
			loaded = true
		case "rules.v4":
			if loaded {
				continue
			}
			before.Host().Feed(t, string(f.Text), "iptables-restore")
		case "rules.v6":
			before.Host().Feed(t, string(f.Text), "ip6tables-restore")
		case "rules.json":
			// nft does not load all that it lists as JSON: what that was listed from
			// is beside it.
			feed(t, before, "nft", filepath.Join(folder, "rules.nft"))
		}
	}
	// What other programs keep beside ipmasq.
	if left := filepath.Join(folder, "left.v4"); exists(left) {
		feed(t, after, "iptables-restore", left)
	}
	if err := after.Apply(p); err != nil {
		t.Fatalf("%v\n%s", err, imported.Policy)
	}
	return &comparison{rules: text.String(), imported: imported, before: before, after: after}
}

// run sends packets until so many connections were tried, or enough differ.
func (c *comparison) run(t *testing.T, n int) {
	t.Helper()
	a := newAim(rand.New(rand.NewPCG(*seed, 7)), c.rules, c.before.Routes())
	for c.sent < n && len(c.differences) < 5 {
		c.round(t, a.packets(60))
	}
	for _, d := range c.differences {
		t.Error(d)
	}
	if len(c.differences) > 0 {
		t.Logf("the rules:\n%s\nthe policy:\n%s", c.rules, c.imported.Policy)
	}
}

// feed has a program load a file on a gateway.
func feed(t *testing.T, g *oracle.Gateway, program, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	args := map[string][]string{"nft": {"-f", "-"}}[program]
	g.Host().Feed(t, string(text), program, args...)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// comparison counts what was compared.
type comparison struct {
	rules                 string
	imported              *adopt.Result
	before, after         *oracle.Gateway
	sent, passed, answers int
	listed                int
	by                    []string
	differences           []string
	tags                  uint32
}

// round sends packets to both gateways, and then the answers to those that
// passed both.
func (c *comparison) round(t *testing.T, list []*oracle.Packet) {
	t.Helper()
	tag := func(i int) uint32 { return c.tags + uint32(i)*3 + 1 }
	one, two := c.before.Send(list, tag), c.after.Send(list, tag)
	c.sent += len(list)
	var answered []int
	var first, second []*oracle.Packet
	for i, p := range list {
		if one[i].Verdict == oracle.Left || one[i].Verdict == oracle.Delivered {
			c.passed++
		}
		if !c.same(t, p, one[i], two[i], "") {
			continue
		}
		if one[i].Verdict == oracle.Left && two[i].Verdict == oracle.Left {
			answered = append(answered, i)
			first, second = append(first, p.Answer(one[i])), append(second, p.Answer(two[i]))
		}
	}
	answer := func(i int) uint32 { return tag(answered[i]) + 1 }
	one, two = c.before.Send(first, answer), c.after.Send(second, answer)
	c.answers += len(first)
	for i, p := range first {
		c.same(t, p, one[i], two[i], list[answered[i]].In)
	}
	c.tags += uint32(len(list)) * 3
	c.before.Forget()
	c.after.Forget()
}

// same compares what became of a packet. Of an answer, came is where its
// connection came in.
func (c *comparison) same(t *testing.T, p *oracle.Packet, one, two oracle.Fate, came string) bool {
	t.Helper()
	if alike(c.rules, string(c.imported.Policy), one, two) {
		return true
	}
	for _, f := range c.imported.Findings {
		for _, x := range c.asFinding(p, one, two, came) {
			if f.Covers(x) {
				// A connection that the rules closed and the policy opens is no note
				// about a line.
				passes := func(f oracle.Fate) bool { return f.Verdict == oracle.Left || f.Verdict == oracle.Delivered }
				if f.Level == adopt.Note && f.File != "" && came == "" && !passes(one) && passes(two) {
					continue
				}
				c.listed++
				if by := fmt.Sprintf("%s %s", f.Place(), f.Message[:min(len(f.Message), 30)]); !slices.Contains(c.by, by) {
					c.by = append(c.by, by)
				}
				return false
			}
		}
	}
	what := "packet"
	if came != "" {
		what = "answer"
	}
	c.differences = append(c.differences, fmt.Sprintf("%s %s\n  the rules:  it %s\n  the import: it %s", what, p, one, two))
	return false
}

// alike says whether a packet fared the same. How it is refused, and which port
// the kernel chose where it chooses, do not count.
func alike(rules, text string, one, two oracle.Fate) bool {
	if one.Verdict != two.Verdict || one.Link != two.Link {
		return false
	}
	a, b := one.Ends, two.Ends
	if one.Verdict == oracle.Answered {
		return true
	}
	if strings.Contains(rules, "random") || strings.Contains(rules, "--to-ports 1024-65535") || strings.Contains(text, "outside_ports") {
		a.SourcePort, b.SourcePort, a.DestinationPort, b.DestinationPort = 0, 0, 0, 0
	}
	if strings.Contains(text, "to: [") && strings.Contains(text, "port_forward") && a.Source == b.Source {
		return true // which target it is is the kernel's choice
	}
	if strings.Contains(text, "distribution") {
		a.Source, b.Source = a.Destination, b.Destination
	}
	return a == b
}

// asFinding gives a packet as findings know it: at its own destination, and at
// what each gateway led it to.
func (c *comparison) asFinding(p *oracle.Packet, one, two oracle.Fate, came string) []adopt.Packet {
	routes := c.before.Routes()
	x := adopt.Packet{
		In: p.In, Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort,
		ICMPType: p.ICMPType, Flags: p.Flags, Answer: came != "", Back: came,
	}
	if leaves := routes.Leaves(p.Source); came == "" && len(leaves) > 0 {
		x.Back = leaves[0]
	}
	list := []adopt.Packet{}
	for _, f := range []oracle.Fate{{}, one, two} {
		y := x
		to := p.Destination
		for _, e := range []oracle.Ends{f.Led, f.Ends} {
			if e.Destination.IsValid() && f.Verdict != oracle.Answered {
				y.To, y.ToPort, to = e.Destination, e.DestinationPort, e.Destination
			}
		}
		if routes.Kind(to) != 2 { // not local
			if leaves := routes.Leaves(to); len(leaves) > 0 {
				y.Out = leaves[0]
			}
		}
		list = append(list, y)
	}
	return list
}
