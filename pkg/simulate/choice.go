package simulate

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Choice is something that the kernel chooses when the packet comes.
type Choice struct {
	What Chosen
	// Of is what it chooses from: addresses, ranges of them, or ranges of ports.
	Of  []string
	How string // "each in turn"
	// Kept says that what Outcome.Left has is taken where it is free.
	Kept bool
}

// Chosen is what the kernel chooses.
type Chosen string

// The choices.
const (
	Target        Chosen = "target"  // of a port forward with several
	SourceAddress Chosen = "address" // of a pool
	SourcePort    Chosen = "port"
	TargetPort    Chosen = "target port"
)

// choices are what of the packet's translations the kernel chooses.
func (q *question) choices(out *Outcome) (list []Choice) {
	for i := range out.Steps {
		s := &out.Steps[i]
		if s.Rule == nil || s.Limited || s.Rule.Action.Pick.Of < 2 {
			continue
		}
		what := Target
		if s.Hook == ruleset.Postrouting {
			what = SourceAddress
		}
		list = append(list, Choice{What: what, Of: q.picked(s.Set), How: howPicked(s.Rule.Action.Pick)})
	}
	if n := &out.DNAT.Offers; out.DNAT.Kind != ruleset.Continue {
		if n.Low != n.High && !n.Prefix && n.High.IsValid() {
			list = append(list, Choice{What: Target, Of: []string{n.Low.String() + "-" + n.High.String()}, How: "by the kernel"})
		}
		if n.PortMax > n.PortMin {
			list = append(list, Choice{What: TargetPort, Of: []string{fmt.Sprintf("%d-%d", n.PortMin, n.PortMax)}, How: "by the kernel"})
		}
	}
	return append(list, q.sourceChoices(&out.SNAT, out.Arrived.SourcePort)...)
}

func (q *question) sourceChoices(t *explain.Translation, port uint16) (list []Choice) {
	n := &t.Offers
	switch t.Kind {
	case ruleset.SNAT:
		if n.Low != n.High && !n.Prefix {
			c := Choice{What: SourceAddress, Of: []string{n.Low.String() + "-" + n.High.String()}, How: "by source and destination"}
			if n.Persistent {
				c.How = "one source keeps one"
			}
			list = append(list, c)
		}
	case ruleset.Masquerade, ruleset.SNATToDest:
	default:
		return nil
	}
	if !HasPorts(q.Protocol) {
		return list
	}
	// Where a rule names no port, the kernel stays in the class of the one that
	// the packet has (nf_nat_l4proto_unique_tuple).
	low, high := n.PortMin, n.PortMax
	if low == 0 {
		switch {
		case port < 512:
			low, high = 1, 511
		case port < 1024:
			low, high = 600, 1023
		default:
			low, high = 1024, 65535
		}
	}
	c := Choice{What: SourcePort, Of: []string{fmt.Sprintf("%d-%d", low, high)}}
	switch {
	case n.Random || n.FullyRandom:
		c.How = "at random"
	case n.PortMin == 0 || n.PortMin <= port && port <= n.PortMax:
		c.How, c.Kept = fmt.Sprintf("%d where it is free", t.Port), true
	default:
		c.How = "one that is free"
	}
	return append(list, c)
}

func howPicked(p ruleset.Pick) string {
	if len(p.Fields) == 0 {
		return "each in turn"
	}
	return "one source keeps one"
}

// picked are what a map has to choose from, each once.
func (q *question) picked(s *ruleset.Set) (list []string) {
	seen := map[string]bool{}
	for i := range s.Len() {
		text := ""
		if s.IsVerdictMap() {
			text = q.targetOf(s.Verdicts[i].Chain)
		} else {
			text = dataText(s, i)
		}
		if text != "" && !seen[text] {
			seen[text] = true
			list = append(list, text)
		}
	}
	return ranged(list)
}

// ranged joins addresses that follow each other.
func ranged(list []string) (out []string) {
	var first, last netip.Addr
	end := func() {
		switch {
		case !first.IsValid():
		case first == last:
			out = append(out, first.String())
		default:
			out = append(out, first.String()+"-"+last.String())
		}
	}
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if err == nil && first.IsValid() && last.Next() == a {
			last = a
			continue
		}
		end()
		first, last = a, a
		if err != nil {
			out = append(out, text)
		}
	}
	end()
	return out
}

// targetOf is where a chain that is made for one target leads.
func (q *question) targetOf(chain string) string {
	for _, c := range q.rules.Chains {
		if c.Name != chain {
			continue
		}
		for _, r := range c.Rules {
			if r.Action.Kind != ruleset.DNAT && r.Action.Kind != ruleset.SNAT {
				continue
			}
			if r.Action.Map == "" {
				return end(r.Action.NAT.Low, 0)
			}
			for _, s := range q.rules.Sets {
				if s.Name == r.Action.Map && s.Len() > 0 {
					return q.targetText(s)
				}
			}
		}
	}
	return ""
}

// targetText is where a map of ports leads what the packet is for; its port is
// told where it is another one.
func (q *question) targetText(s *ruleset.Set) string {
	at := 0
	for _, t := range s.Key {
		if t == ruleset.InetService {
			break
		}
		at += t.Padded()
	}
	for i := range s.Len() {
		low := s.KeyAt(i)
		high := low
		if s.Interval {
			high = s.HighAt(i)
		}
		if at+2 > len(low) || binary.BigEndian.Uint16(low[at:]) > q.DestinationPort || q.DestinationPort > binary.BigEndian.Uint16(high[at:]) {
			continue
		}
		a, port := data(s, i)
		if port == q.DestinationPort {
			port = 0
		}
		return end(a, port)
	}
	a, _ := data(s, 0)
	return a.String()
}

func dataText(s *ruleset.Set, i int) string {
	a, port := data(s, i)
	return end(a, port)
}

// data is the address of an element, and its port where it has one: the low ends
// of ranges.
func data(s *ruleset.Set, i int) (a netip.Addr, port uint16) {
	raw := s.DataAt(i)
	a, _ = netip.AddrFromSlice(raw[:s.Data[0].Size()])
	if len(s.Data) == 2 {
		port = binary.BigEndian.Uint16(raw[s.Data[0].Padded():])
	}
	return a, port
}
