package backendtest

import (
	"encoding/json"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// body is what the fake keeps of a rule, as JSON.
type body struct {
	Matches []ruleset.Match     `json:",omitempty"`
	Do      []ruleset.Statement `json:",omitempty"`
	Counter string              `json:",omitempty"`
	Action  ruleset.Action
}

// shape is what the fake keeps of a set, as JSON.
type shape struct {
	Key, Data         []ruleset.Type
	Interval, Counted bool
	Dynamic           bool   `json:",omitempty"`
	Size, Timeout     uint32 `json:",omitempty"`
	DataInterval      bool   `json:",omitempty"`
	Comment           string
}

func (s *shape) isVerdictMap() bool { return len(s.Data) == 1 && s.Data[0] == ruleset.Verdict }

func encode(v any) []byte {
	p, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("backendtest: %v", err)) // plain data always encodes
	}
	return p
}

func decode(p []byte, v any) {
	if err := json.Unmarshal(p, v); err != nil {
		panic(fmt.Sprintf("backendtest: not of the fake: %q: %v", p, err))
	}
}

func decodeRule(p []byte) (b body) {
	decode(p, &b)
	return b
}

func decodeShape(attributes string) (s shape) {
	decode([]byte(attributes), &s)
	return s
}

func decodeHook(attributes string) *ruleset.Hook {
	if attributes == "" {
		return nil
	}
	h := &ruleset.Hook{}
	decode([]byte(attributes), h)
	return h
}

func want(rs *ruleset.Ruleset) (*plan.Snapshot, error) {
	if err := backend.Check(rs); err != nil {
		return nil, err
	}
	s := &plan.Snapshot{Origins: rs.Origins}
	for _, c := range rs.Chains {
		chain := plan.Chain{Name: c.Name, Origin: c.Origin}
		if c.Hook != nil {
			chain.Attributes = string(encode(c.Hook))
		}
		for _, r := range c.Rules {
			b := encode(body{r.Matches, r.Do, r.Counter, r.Action})
			chain.Rules = append(chain.Rules, plan.Rule{Body: b, Origin: r.Origin})
		}
		s.Chains = append(s.Chains, chain)
	}
	for _, c := range rs.Counters {
		s.Counters = append(s.Counters, plan.Counter{Name: c.Name, Origin: c.Origin})
	}
	s.Objects = wantObjects(rs)
	for _, set := range rs.Sets {
		s.Sets = append(s.Sets, wantSet(set))
	}
	s.Normalize()
	return s, nil
}

func wantSet(set *ruleset.Set) *plan.Set {
	out := &plan.Set{Name: set.Name, Origin: set.Origin}
	out.Attributes = string(encode(shape{set.Key, set.Data, set.Interval, set.Counted, set.Dynamic, set.Size, set.Timeout, set.DataInterval, set.Origin.Entry}))
	e := &out.Elements
	e.KeyLen = set.KeyLen()
	if set.Interval {
		e.KeyLen *= 2
	}
	for i := range set.Len() {
		var high []byte
		if set.Interval {
			high = set.HighAt(i)
		}
		data := set.DataAt(i)
		if set.IsVerdictMap() {
			data = append([]byte{byte(set.Verdicts[i].Kind)}, set.Verdicts[i].Chain...)
		}
		e.Append(set.OriginAt(i), set.KeyAt(i), high, data)
	}
	return out
}

func wantObjects(rs *ruleset.Ruleset) []plan.Object {
	var out []plan.Object
	add := func(kind plan.ObjectKind, name string, o ruleset.Origin, attributes any) {
		out = append(out, plan.Object{Kind: kind, Name: name, Attributes: string(encode(attributes)), Origin: o})
	}
	for _, h := range rs.Helpers {
		add(plan.CtHelper, h.Name, h.Origin, ruleset.Helper{Helper: h.Helper, Protocol: h.Protocol, Family: h.Family})
	}
	for _, x := range rs.Timeouts {
		add(plan.CtTimeout, x.Name, x.Origin, ruleset.Timeout{Protocol: x.Protocol, Family: x.Family, Policy: x.Policy})
	}
	for _, f := range rs.Flowtables {
		add(plan.Flowtable, f.Name, f.Origin, ruleset.Flowtable{Priority: f.Priority, Devices: f.Devices, Hardware: f.Hardware})
	}
	return out
}
