package iptables

import (
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// carry says what each rule of a chain that is filled again has counted, where
// any has, and which chains those are: one may be filled only to keep a count.
func carry(changes *plan.Changes, now *held) (map[string][]plan.Count, []changedChain) {
	c := &carrier{now: now, touched: map[string]bool{}, counts: map[string][]plan.Count{}, moved: map[string][]plan.Count{}}
	for _, x := range changes.Chains {
		var is changedChain
		if x.From >= 0 {
			is.from = &changes.From.Chains[x.From]
		}
		if x.To >= 0 {
			is.to = &changes.To.Chains[x.To]
		}
		c.touch(is)
	}
	if !c.any {
		return nil, c.changed
	}
	for _, x := range c.changed {
		c.stay(x)
	}
	for _, x := range c.changed {
		c.move(x)
	}
	lost := c.lost()
	if len(lost) == 0 {
		return c.counts, c.changed
	}
	for _, x := range c.changed {
		if x.to != nil {
			c.give(x.to, lost)
		}
	}
	for i := 0; i < len(changes.To.Chains) && len(lost) > 0; i++ {
		to := &changes.To.Chains[i]
		if c.touched[to.Name] {
			continue
		}
		for _, r := range to.Rules {
			if name := counterOf(r.Body); name != "" && lost[name] != (plan.Count{}) {
				same := changedChain{to, to}
				c.touch(same)
				c.stay(same)
				c.give(to, lost)
				break
			}
		}
	}
	return c.counts, c.changed
}

// carrier finds out where counts go.
type carrier struct {
	now     *held
	changed []changedChain
	touched map[string]bool
	any     bool                    // rules of chains that change have counted
	counts  map[string][]plan.Count // of the rules that will be there
	moved   map[string][]plan.Count // what rules that leave their chain have counted
}

func (c *carrier) touch(x changedChain) {
	if c.touched[x.name()] {
		return
	}
	c.touched[x.name()] = true
	c.changed = append(c.changed, x)
	if x.from == nil {
		return
	}
	for _, n := range c.now.counts[x.from.Name] {
		c.any = c.any || n != plan.Count{}
	}
}

// stay carries what rules have counted that are in their chain again.
func (c *carrier) stay(x changedChain) {
	var next []plan.Count
	if x.to != nil {
		next = make([]plan.Count, len(x.to.Rules))
		c.counts[x.to.Name] = next
	}
	if x.from == nil {
		return
	}
	was := map[string][]plan.Count{}
	for i, n := range c.now.counts[x.from.Name] {
		if body := x.from.Rules[i].Body; n != (plan.Count{}) {
			was[string(body)] = append(was[string(body)], n)
		}
	}
	for i := 0; i < len(next) && len(was) > 0; i++ {
		body := x.to.Rules[i].Body
		if list := was[string(body)]; len(list) > 0 {
			next[i], was[string(body)] = list[0], list[1:]
		}
	}
	for body, list := range was {
		if key := c.movable(x.from, body); key != "" {
			c.moved[key] = append(c.moved[key], list...)
		}
	}
}

// move carries what elements have counted that are in another chain of the table.
func (c *carrier) move(x changedChain) {
	if x.to == nil {
		return
	}
	for i := 0; i < len(x.to.Rules) && len(c.moved) > 0; i++ {
		if n := &c.counts[x.to.Name][i]; *n == (plan.Count{}) {
			key := c.movable(x.to, string(x.to.Rules[i].Body))
			for _, m := range c.moved[key] {
				n.Packets, n.Bytes = n.Packets+m.Packets, n.Bytes+m.Bytes
			}
			delete(c.moved, key)
		}
	}
}

// movable names an element by what it is in any chain of a table: protocol and
// port, comment and target. It is "" for what does not count for an element.
func (c *carrier) movable(at *plan.Chain, rule string) string {
	_, counter := uncomment(commentOf(rule))
	if !strings.Contains(counter, "+") {
		return ""
	}
	f, table, _ := keyOf(at.Name)
	key := familyName(f) + " " + table
	for _, option := range []string{"-p ", "--dport ", "--dports "} {
		if _, value, ok := strings.Cut(rule, option); ok {
			value, _, _ = strings.Cut(value, " ")
			key += " " + option + value
		}
	}
	_, end, _ := strings.Cut(rule, "-m comment ")
	return key + " " + end
}

// lost is what each counter loses with rules that go, but for elements: what one
// has counted goes with it.
func (c *carrier) lost() map[string]plan.Count {
	lost := map[string]plan.Count{}
	tally := func(x *plan.Chain, counts []plan.Count, sign uint64) {
		for i, n := range counts {
			if n == (plan.Count{}) {
				continue
			}
			if name := counterOf(x.Rules[i].Body); name != "" && !strings.Contains(name, "+") {
				l := lost[name]
				l.Packets, l.Bytes = l.Packets+sign*n.Packets, l.Bytes+sign*n.Bytes
				lost[name] = l
			}
		}
	}
	for _, x := range c.changed {
		if x.from != nil {
			tally(x.from, c.now.counts[x.from.Name], 1)
		}
		if x.to != nil {
			tally(x.to, c.counts[x.to.Name], ^uint64(0)) // minus
		}
	}
	for name, n := range lost {
		if n == (plan.Count{}) {
			delete(lost, name)
		}
	}
	return lost
}

// give has the rules of a chain take on what others have counted.
func (c *carrier) give(x *plan.Chain, lost map[string]plan.Count) {
	for i, r := range x.Rules {
		name := counterOf(r.Body)
		if l := lost[name]; name != "" && l != (plan.Count{}) {
			n := &c.counts[x.Name][i]
			n.Packets, n.Bytes = n.Packets+l.Packets, n.Bytes+l.Bytes
			delete(lost, name)
		}
	}
}

// counterOf is the counter that a rule counts for.
func counterOf(rule []byte) string {
	_, name := uncomment(commentOf(string(rule)))
	return name
}
