package policy

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// mutator changes a policy in a way that nobody meant.
type mutator struct {
	*rand.Rand
	keys   []string
	values []*node // of all policies
	words  []string
}

func newMutator(seed uint64, trees []*node) *mutator {
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 1))}
	seen := map[string]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		m.values = append(m.values, n)
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				seen[c.Value] = true
				continue
			}
			walk(c)
		}
	}
	for _, tree := range trees {
		walk(tree)
	}
	m.keys = append(slices.Sorted(maps.Keys(seen)), "interface", "zone", "port", "protocols", "any", "gateway", "Web", "-", "a_b", "<<", "docker", "tcp/80", "udp/0", "icmp/1", "tcp/1-2")
	m.words = strings.Fields(`~ null true false True yes "true" "false" 0 1 -1 6 47 80 "80" 0x50 80.5 1e3 08 65535 65536 4294967295 4294967296 80-90 90-80 "80 - 90" 80, 80:90 all any gateway
 "" " " a A a-b -a a_b lan wan dmz @office "@servers" "@" "@A" eth0 eth+ br-* * "*" "**" a/b . .. abcdefghijklmnop abcdefghijklmno*
 10.0.0.1 10.0.0.0/8 10.0.0.1/8 10.0.0.1/33 10.0.0.1-10.0.0.9 10.0.0.9-10.0.0.1 "10.0.0.1 - 10.0.0.2" 10.0.0 10.0.0.256 010.0.0.1 127.0.0.1 0.0.0.0/0 224.0.0.1 255.255.255.255 10.0.0.1:80 10.0.0.1:80-90 10.0.0.1:0
 "::1" "2001:db8::1" "2001:db8::/32" "2001:db8::1/32" "[2001:db8::1]:80" "[2001:db8::1]" "2001:db8::1-2001:db8::9" "::ffff:10.0.0.1" "fe80::1%eth0" 10.0.0.1-2001:db8::1
 tcp udp icmp TCP sctp udplite gre 255 256 tcp/80 tcp/ icmp/1 6/25 tcp/80-70 47/1 accept drop reject ACCEPT ipv4 ipv6 pmtu 535 536 65495 65496
 30s 5m 2h4m 5 0s 1d 597h 1h1h 4m2h 10/second 0/second 10 10/fortnight 9999999999/second 1/day 0x1 0x1/0xff 0xff/0x1 0x1/0x0 0x1FFFFFFFF 0X1 1/2
 echo-request ping packet-too-big ftp http warn warning persistent preserve random kernel round-robin outside source auto nftables iptables 2 1.0 "1"`)
	return m
}

func (m *mutator) value() *node {
	switch m.IntN(8) {
	case 0:
		return &node{Kind: yaml.SequenceNode}
	case 1:
		return &node{Kind: yaml.MappingNode}
	case 2:
		return &node{Kind: yaml.SequenceNode, Content: []*node{m.value()}}
	case 3, 4:
		return clone(m.values[m.IntN(len(m.values))])
	}
	return &node{Kind: yaml.ScalarNode, Value: m.words[m.IntN(len(m.words))], Tag: "written"}
}

// key is one that the mapping does not have: of two of a name an editor may
// look at either.
func (m *mutator) key(of *node) *node {
	for {
		k := &node{Kind: yaml.ScalarNode, Value: m.keys[m.IntN(len(m.keys))]}
		if (written{n: of}).value(k.Value) == nil {
			return k
		}
	}
}

// mutate changes the tree in one place.
func (m *mutator) mutate(root *node) {
	var inner []*node
	var walk func(n *node)
	walk = func(n *node) {
		if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
			inner = append(inner, n)
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(root)
	n := inner[m.IntN(len(inner))]
	if len(n.Content) == 0 {
		*n = *m.value()
		return
	}
	i := m.IntN(len(n.Content))
	if n.Kind == yaml.MappingNode {
		i &^= 1
		switch m.IntN(5) {
		case 0:
			n.Content = slices.Delete(n.Content, i, i+2)
		case 1:
			n.Content[i] = m.key(n)
		case 2:
			n.Content = append(n.Content, m.key(n), m.value())
		case 3:
			n.Content[i+1] = &node{Kind: yaml.SequenceNode, Content: []*node{n.Content[i+1]}}
		default:
			n.Content[i+1] = m.value()
		}
		return
	}
	switch m.IntN(4) {
	case 0:
		n.Content = slices.Delete(n.Content, i, i+1)
	case 1:
		n.Content = append(n.Content, clone(n.Content[i]))
	case 2:
		*n = *n.Content[i]
	default:
		n.Content[i] = m.value()
	}
}

func clone(n *node) *node {
	c := *deref(n)
	c.Content = make([]*node, len(c.Content))
	for i, child := range deref(n).Content {
		c.Content[i] = clone(child)
	}
	return &c
}

// oneLine puts a tree on one line. What a mutation brought stands as it is
// written in the list of words.
func oneLine(b *strings.Builder, n *node) {
	switch {
	case n.Kind == yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			b.WriteString(strconv.Quote(n.Content[i].Value) + ": ")
			oneLine(b, n.Content[i+1])
			b.WriteString(", ")
		}
		b.WriteByte('}')
	case n.Kind == yaml.SequenceNode:
		b.WriteByte('[')
		for _, c := range n.Content {
			oneLine(b, c)
			b.WriteString(", ")
		}
		b.WriteByte(']')
	case n.Tag == "written", n.Tag != "!!str":
		b.WriteString(n.Value)
	default:
		b.WriteString(strconv.Quote(n.Value))
	}
}

// TestSchemaAgreesAboutMutants holds the schema against the parser over
// policies that somebody has broken: where the schema refuses, so does the
// parser; where the parser alone refuses, its reasons are all of those that a
// schema cannot see.
func TestSchemaAgreesAboutMutants(t *testing.T) {
	t.Parallel()
	count, seed := 2000, uint64(1)
	if v := os.Getenv("SCHEMA_MUTANTS"); v != "" { // a longer run, of another seed
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		count, seed = n, rand.Uint64()
		t.Logf("seed %d", seed)
	}
	s, classes := compiledSchema(t), unseenWords()
	files := corpus(t)
	var trees []*node
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if len(errorsOf(t, files[name])) > 0 {
			continue
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(files[name], &doc); err != nil {
			t.Fatal(err)
		}
		trees = append(trees, clone(doc.Content[0]))
	}
	m := newMutator(seed, trees)
	var both, alone, taken, failures int
	for range count {
		tree := clone(trees[m.IntN(len(trees))])
		for range 1 + m.IntN(2) {
			m.mutate(tree)
		}
		var b strings.Builder
		oneLine(&b, tree)
		b.WriteByte('\n')
		text := []byte(b.String())
		v, ok := asInstance(text)
		if !ok {
			continue
		}
		errs, invalid := errorsOf(t, text), s.Validate(v)
		switch {
		case len(errs) > 0 && invalid != nil:
			both++
		case len(errs) == 0 && invalid == nil:
			taken++
		case invalid != nil:
			t.Errorf("the parser takes this, and the schema does not:\n%s%v", text, invalid)
			failures++
		default:
			alone++
			for _, e := range errs {
				if !parserSees(classes, text, e) {
					t.Errorf("the schema takes this, and the parser has a reason that a schema could see:\n%s%s", text, e.Message)
					failures++
				}
			}
		}
		if failures > 10 {
			t.FailNow()
		}
	}
	t.Logf("both refuse %d, the parser alone %d, both take %d", both, alone, taken)
	if both < count/4 || alone < count/50 || taken < count/20 {
		t.Errorf("the mutants are of one kind: both refuse %d, the parser alone %d, both take %d", both, alone, taken)
	}
}
