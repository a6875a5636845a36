package nftables

import (
	"bufio"
	"bytes"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Description is a ruleset for other programs to read: the same as Text, in
// parts, with the entry and the place that each part comes from.
type Description struct {
	Family   string              `json:"family"`
	Table    string              `json:"table"`
	Chains   []ChainDescription  `json:"chains"`
	Sets     []SetDescription    `json:"sets"`
	Counters []string            `json:"counters"`
	Objects  []ObjectDescription `json:"objects,omitempty"`
}

// ChainDescription is one chain. Hook, type and priority are of base chains.
type ChainDescription struct {
	Name     string            `json:"name"`
	Type     string            `json:"type,omitempty"`
	Hook     string            `json:"hook,omitempty"`
	Priority *int              `json:"priority,omitempty"`
	Rules    []RuleDescription `json:"rules"`
}

// RuleDescription is one rule, as nft(8) writes it.
type RuleDescription struct {
	ID    string `json:"id"`
	Text  string `json:"text"`
	Entry string `json:"entry,omitempty"`
	Place string `json:"place,omitempty"`
}

// SetDescription is one set or map.
type SetDescription struct {
	Name     string               `json:"name"`
	Key      string               `json:"key"`
	Data     string               `json:"data,omitempty"`
	Interval bool                 `json:"interval,omitempty"`
	Dynamic  bool                 `json:"dynamic,omitempty"` // rules fill it
	Elements []ElementDescription `json:"elements"`
}

// ObjectDescription is a helper, a timeout policy or a flowtable.
type ObjectDescription struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Text  string `json:"text"`
	Entry string `json:"entry,omitempty"`
	Place string `json:"place,omitempty"`
}

// ElementDescription is one element, as nft(8) writes it.
type ElementDescription struct {
	Text  string `json:"text"`
	Entry string `json:"entry,omitempty"`
	Place string `json:"place,omitempty"`
}

// Describe takes a ruleset apart.
func Describe(rs *ruleset.Ruleset) Description {
	d := Description{Family: "inet", Table: Table, Chains: []ChainDescription{}, Sets: []SetDescription{}, Counters: []string{}}
	var b bytes.Buffer
	t := &texter{Writer: bufio.NewWriter(&b), rs: rs}
	text := func(write func()) string {
		write()
		t.Flush()
		s := string(bytes.TrimSpace(b.Bytes()))
		b.Reset()
		return s
	}
	for _, c := range rs.Chains {
		chain := ChainDescription{Name: c.Name, Rules: []RuleDescription{}}
		if h := c.Hook; h != nil {
			chain.Type, chain.Hook, chain.Priority = string(h.Type), h.Point.String(), &h.Priority
		}
		for _, r := range c.Rules {
			chain.Rules = append(chain.Rules, RuleDescription{r.ID, text(func() { t.rule(r) }), r.Origin.Entry, r.Origin.Place.String()})
		}
		d.Chains = append(d.Chains, chain)
	}
	for _, s := range rs.Sets {
		set := SetDescription{Name: s.Name, Key: typeNames(s.Key), Interval: s.Interval, Dynamic: s.Dynamic, Elements: []ElementDescription{}}
		if s.Data != nil {
			set.Data = dataNames(s)
		}
		for i := range s.Len() {
			o := s.Origin
			if n := s.OriginAt(i); n != ruleset.NoOrigin {
				o = rs.Origins[n]
			}
			set.Elements = append(set.Elements, ElementDescription{text(func() { t.element(s, i) }), o.Entry, o.Place.String()})
		}
		d.Sets = append(d.Sets, set)
	}
	for _, c := range rs.Counters {
		d.Counters = append(d.Counters, c.Name)
	}
	object := func(kind plan.ObjectKind, name string, o ruleset.Origin, write func()) {
		d.Objects = append(d.Objects, ObjectDescription{string(kind), name, text(write), o.Entry, o.Place.String()})
	}
	for _, h := range rs.Helpers {
		object(plan.CtHelper, h.Name, h.Origin, func() { t.helper(h) })
	}
	for _, x := range rs.Timeouts {
		object(plan.CtTimeout, x.Name, x.Origin, func() { t.timeout(x) })
	}
	for _, f := range rs.Flowtables {
		object(plan.Flowtable, f.Name, f.Origin, func() { t.flowtable(f) })
	}
	return d
}
