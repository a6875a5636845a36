package iptables

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// assignment is what packets that are like this are given.
type assignment struct {
	when   alternative
	target string
	origin ruleset.Origin
}

// givenBy is what a chain, and those that it leads to, give.
func (t *translator) givenBy(name string, seen map[string]bool) ([]assignment, error) {
	if seen[name] {
		return nil, nil
	}
	seen[name] = true
	c := t.chains[name]
	out, _, err := t.given(c)
	if err != nil {
		return nil, err
	}
	for _, r := range c.Rules {
		for _, v := range t.verdicts(r) {
			if !t.possible(r) || !t.leadsOn(v, map[string]bool{}) {
				continue
			}
			more, err := t.givenBy(v.Chain, seen)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}

// given is what the rules of a chain give themselves: to each packet a helper,
// timeouts, or both.
func (t *translator) given(c *ruleset.Chain) (out []assignment, any bool, err error) {
	type part struct {
		rule     *ruleset.Rule
		protocol uint8
		text     string
	}
	var helpers, timeouts []part
	for _, r := range c.Rules {
		for i := range r.Do {
			s := &r.Do[i]
			if !assigns(s) || !t.possible(r) {
				continue
			}
			if len(r.Do) > 1 || r.Action.Kind != ruleset.Continue || r.Counter != "" {
				return nil, true, errSteps
			}
			if s.Kind == ruleset.SetHelper {
				h := t.helper(s.Object)
				if h == nil {
					return nil, true, fmt.Errorf("there is no helper %s", s.Object)
				}
				if h.Family == ruleset.Inet || h.Family == t.family {
					helpers = append(helpers, part{r, h.Protocol, " --helper " + h.Helper})
				}
				continue
			}
			o, protocol, err := t.timeout(s.Object)
			if err != nil {
				return nil, true, err
			}
			if o != "" {
				timeouts = append(timeouts, part{r, protocol, " --timeout " + o})
			}
		}
	}
	add := func(p part, text string) error {
		matches, exact := known(p.rule)
		if !exact {
			return errAssign
		}
		ways, err := t.alternatives(matches)
		if err != nil {
			return err
		}
		for _, w := range ways {
			w.counter = ""
			out = append(out, assignment{w, "-j CT" + text, p.rule.Origin})
		}
		return nil
	}
	for _, h := range helpers {
		text := h.text
		if i := slices.IndexFunc(timeouts, func(p part) bool { return p.protocol == h.protocol }); i >= 0 {
			text += timeouts[i].text
		}
		if err := add(h, text); err != nil {
			return nil, true, err
		}
	}
	for _, p := range timeouts {
		if err := add(p, p.text); err != nil {
			return nil, true, err
		}
	}
	return out, len(helpers)+len(timeouts) > 0, nil
}

func (t *translator) helper(name string) *ruleset.Helper {
	i := slices.IndexFunc(t.rules.Helpers, func(h *ruleset.Helper) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return t.rules.Helpers[i]
}

// timeout is the name of the object of the family, which is then wanted; "" where
// the family has no such flows.
func (t *translator) timeout(name string) (object string, protocol uint8, err error) {
	i := slices.IndexFunc(t.rules.Timeouts, func(x *ruleset.Timeout) bool { return x.Name == name })
	if i < 0 {
		return "", 0, fmt.Errorf("there is no timeout %s", name)
	}
	x := t.rules.Timeouts[i]
	o, fits, err := timeoutObject(x, t.family, t.timeouts)
	if err != nil || !fits {
		return "", x.Protocol, err
	}
	t.timeouts[o.Name] = o
	return o.Name, x.Protocol, nil
}

// apart says whether no packet is like both conditions, as far as addresses,
// ports, protocols and interfaces tell.
func apart(a, b condition) bool {
	for _, x := range a {
		for _, y := range b {
			if x.slot != y.slot || x.not || y.not {
				continue
			}
			switch x.slot {
			case source, destination:
				if x.hi.Less(y.lo) || y.hi.Less(x.lo) {
					return true
				}
			case sourcePort, destinationPort:
				if x.ports[1] < y.ports[0] || y.ports[1] < x.ports[0] {
					return true
				}
			case protocol:
				if x.proto != y.proto {
					return true
				}
			case input, output:
				if !covers(x.text, y.text) && !covers(y.text, x.text) {
					return true
				}
			}
		}
	}
	return false
}

// newHelpers are the helpers of the kernel that changes have rules assign.
func newHelpers(changes *plan.Changes) []string {
	var out []string
	for _, c := range changes.Chains {
		if c.To < 0 {
			continue
		}
		for _, r := range changes.To.Chains[c.To].Rules {
			if _, name, ok := bytes.Cut(r.Body, []byte(" --helper ")); ok {
				name, _, _ = bytes.Cut(name, []byte{' '})
				out = append(out, string(name))
			}
		}
	}
	return out
}
