package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ipmasq/ipmasq/test/random"
)

// mostTrials bounds how often a smaller case is tried.
const mostTrials = 500

// Case is a policy and packets.
type Case struct {
	Text    string
	Packets []*Packet
	Found   Difference
	Once    bool // it was not seen again
}

// String is the case as somebody could try it.
func (c *Case) String() string {
	var text strings.Builder
	if c.Once {
		text.WriteString("seen once, and not when all was sent again\n")
	}
	fmt.Fprintf(&text, "%s\nAs a file of testdata:\n\n", &c.Found)
	for _, p := range c.Packets {
		written, _ := json.Marshal(p)
		fmt.Fprintf(&text, "%s%s\n", packetLine, written)
	}
	return text.String() + c.Text
}

// packetLine begins a packet in a file of testdata; for a policy it is a
// comment.
const packetLine = "# packet "

// packetsIn reads the packets of such a file.
func packetsIn(text string) (list []*Packet, err error) {
	for line := range strings.Lines(text) {
		if written, ok := strings.CutPrefix(line, packetLine); ok {
			p := &Packet{}
			if err := json.Unmarshal([]byte(written), p); err != nil {
				return nil, fmt.Errorf("read %s: %w", line, err)
			}
			list = append(list, p)
		}
	}
	return list, nil
}

// Try puts a policy in force and sends packets. It gives the first difference,
// or nil.
func (g *Gateway) Try(text string, packets []*Packet) (*Difference, error) {
	p, err := random.Read(text, g.Facts())
	if err != nil {
		return nil, err
	}
	if err := g.Apply(p.Parsed); err != nil {
		return nil, err
	}
	if p, err = random.Read(text, g.Facts()); err != nil {
		return nil, err
	}
	round := g.play(g.judge(p), packets)
	if len(round.Differences) == 0 {
		return nil, nil
	}
	return &round.Differences[0], nil
}

// shrink makes a case smaller as long as there is a difference: fewer packets,
// one if that is enough, then less of a policy.
func (g *Gateway) shrink(text string, packets []*Packet, found *Difference) *Case {
	g.t.Helper()
	c := &Case{Text: text, Packets: packets, Found: *found}
	trials := 0
	differs := func(text string, packets []*Packet) bool {
		if trials++; trials > mostTrials {
			return false
		}
		d, err := g.Try(text, packets)
		if err != nil || d == nil {
			return false
		}
		c.Text, c.Packets, c.Found = text, packets, *d
		return true
	}
	if one := packets[found.index : found.index+1]; !differs(text, one) {
		if !differs(text, packets) {
			c.Packets, c.Once = one, true
			return c
		}
		for size := len(c.Packets) / 2; size > 0; size /= 2 {
			for at := 0; at < len(c.Packets); {
				rest := append(append([]*Packet{}, c.Packets[:at]...), c.Packets[min(at+size, len(c.Packets)):]...)
				if len(rest) == 0 || !differs(text, rest) {
					at += size
				}
			}
		}
	}
	for again := true; again; {
		again = false
		for n := 0; ; n++ {
			smaller, ok := without(c.Text, n)
			if !ok {
				break
			}
			if smaller != "" && differs(smaller, c.Packets) {
				again = true
				n--
			}
		}
	}
	return c
}

// without leaves out the n-th of all keys and items, those of the outermost
// first. It is not ok where there is none.
func without(text string, n int) (string, bool) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		return "", false
	}
	level := []*yaml.Node{doc.Content[0]}
	for len(level) > 0 {
		var below []*yaml.Node
		for _, node := range level {
			size := 1
			switch node.Kind {
			case yaml.MappingNode:
				size = 2
			case yaml.SequenceNode:
			default:
				continue
			}
			if i := n * size; i < len(node.Content) {
				node.Content = append(node.Content[:i:i], node.Content[i+size:]...)
				return write(&doc), true
			}
			n -= len(node.Content) / size
			for i := size - 1; i < len(node.Content); i += size {
				below = append(below, node.Content[i])
			}
		}
		level = below
	}
	return "", false
}

func write(doc *yaml.Node) string {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if e.Encode(doc) != nil {
		return ""
	}
	return b.String()
}
