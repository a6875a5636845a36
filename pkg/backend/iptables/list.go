package iptables

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// The elements of a long map or set are in a chain of their own, their list,
// which all rules that look there lead to: each element is there once. A longer
// one is split by ports, so that a packet meets few of them.
const (
	// maxFlat is how many elements a chain holds before it is split.
	maxFlat = 64
	// minSplit is from how many elements on ports have a chain of their own.
	minSplit = 5
)

// portBlocks are how many ports a chain of the first level is for, and one of the
// second. That they do not depend on the elements leaves most chains as they are
// when one comes or goes.
func portBlocks() []int { return []int{2048, 64} }

// asked says which set a rule looks up, by the number of the match or, where it
// is the action's map, -1.
func (t *translator) asked(r *ruleset.Rule) (set *ruleset.Set, at int) {
	if len(r.Do) > 0 || r.Counter != "" {
		return nil, 0
	}
	if r.Action.Map != "" {
		if m := t.sets[r.Action.Map]; m != nil && m.Len() > few && r.Action.Pick.Of == 0 {
			return m, -1
		}
		return nil, 0
	}
	for i, m := range r.Matches {
		if s := t.sets[m.Set]; s != nil && m.Op == ruleset.In && s.Len() > maxFlat && len(t.groups(s, m.Fields, nil, false)) > maxFlat {
			return s, i
		}
	}
	return nil, 0
}

// listed translates a rule that looks up many elements: it leads to their list. A
// packet that is none of them comes back, and meets the rules behind. So an
// element that goes back itself cannot be in a list.
func (t *translator) listed(r *ruleset.Rule, jumped bool) (lines []line, ok bool, err error) {
	set, at := t.asked(r)
	if set == nil {
		return nil, false, nil
	}
	rest := r.Matches
	if at >= 0 {
		rest = slices.Delete(slices.Clone(rest), at, at+1)
	}
	conditions, err := t.alternatives(rest)
	if err != nil {
		return nil, false, err
	}
	if slices.ContainsFunc(conditions, func(c alternative) bool { return c.counter != "" || c.origin.Entry != "" }) {
		return nil, false, nil
	}
	w := t.writer(r)
	for _, c := range conditions {
		// What is asked of ports needs the protocol with it.
		var of condition
		for _, a := range c.condition {
			if a.slot == protocol {
				of = append(of, a)
			}
		}
		name, err := t.list(r, jumped, set, at, of)
		if err != nil || name == "" {
			return nil, false, err
		}
		w.write(c, nil, "", "-j "+name)
	}
	return w.lines, true, w.err
}

// list gives the chain of a rule's elements; "" where they are to be in its own.
func (t *translator) list(r *ruleset.Rule, jumped bool, set *ruleset.Set, at int, of condition) (name string, err error) {
	key := fmt.Sprint(t.family, t.table.name, t.place.mode, set.Name, at, of, jumped, r.Origin.Entry, r.Action, r.Known)
	if name, known := t.lists[key]; known {
		return name, nil
	}
	t.lists[key] = ""
	t.among = of
	targets, err := t.targets(r, jumped)
	t.among = nil
	if err != nil || slices.ContainsFunc(targets, func(x target) bool { return returning(x.text) }) {
		return "", err
	}
	keys := []alternative{{}}
	if at >= 0 {
		if keys, err = t.inSet(r.Matches[at]); err != nil {
			return "", err
		}
	} else if len(targets) <= few {
		return "", nil
	}
	called := listName(set.Name)
	name = chainName(called, t.place.mode)
	if slices.ContainsFunc(t.table.chains, func(c *chain) bool { return c.name == name }) {
		h := fnv.New32a()
		fmt.Fprint(h, key)
		called = fmt.Sprintf("%s_%08x", called, h.Sum32())
		name = chainName(called, t.place.mode)
	}
	l := &lister{t: t, name: called, of: of, origin: set.Origin, w: t.writer(r)}
	l.w.chain = name
	for _, k := range keys {
		c := product([]alternative{{condition: of}}, []alternative{k})[0]
		for _, x := range targets {
			e := element{from: len(l.w.lines), when: c.condition}
			if len(k.condition) == 0 {
				e.when = x.when.condition
			}
			t.meets(l.w, c, x, nil, "")
			if e.to = len(l.w.lines); e.to > e.from {
				l.all = append(l.all, e)
			}
		}
	}
	// Where elements may hold what others hold too, the first one counts.
	if single := at >= 0 || count(set.Key, ruleset.InetService) == 1; single {
		l.choose()
	}
	l.chain(name, l.all, 0)
	if l.w.err != nil {
		return "", l.w.err
	}
	t.lists[key] = name
	return name, nil
}

func count(types []ruleset.Type, of ruleset.Type) (n int) {
	for _, x := range types {
		if x == of {
			n++
		}
	}
	return n
}

// listName is what the list of a set is called; each family has its own.
func listName(set string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(set, "port_forward_"), "_v4"), "_v6")
}

// lister writes the elements of a list to chains.
type lister struct {
	t      *translator
	name   string
	of     condition // what all of them are
	origin ruleset.Origin
	w      *writer // has all lines
	all    []element
	asks   func(lo, hi int) atom // for ports by which they are split; nil is for none
}

// element is some lines of a list, and what a packet is that they are for.
type element struct {
	from, to int
	when     condition
	ports    [2]uint16
}

// choose decides which ports the elements are split by: those that there are
// more of.
func (l *lister) choose() {
	most := 1
	for _, asks := range []func(lo, hi int) atom{
		func(lo, hi int) atom { return atom{slot: destinationPort, ports: [2]uint16{uint16(lo), uint16(hi)}} },
		func(lo, hi int) atom { return firstPort(uint16(lo), uint16(hi)) },
	} {
		s := asks(0, 0).slot
		seen := map[int]bool{}
		ports := make([][2]uint16, len(l.all))
		for i, e := range l.all {
			ports[i] = [2]uint16{0, 65535}
			for _, a := range e.when {
				if a.slot == s && !a.not && a.ports != ([2]uint16{}) {
					ports[i] = a.ports
				}
			}
			if blocks := portBlocks(); blockOf(ports[i], blocks[len(blocks)-1]) >= 0 {
				seen[blockOf(ports[i], blocks[len(blocks)-1])] = true
			}
		}
		if len(seen) <= most {
			continue
		}
		most, l.asks = len(seen), asks
		for i := range l.all {
			l.all[i].ports = ports[i]
		}
	}
}

// blockOf is the number of the block that ports are all in, or -1.
func blockOf(ports [2]uint16, size int) int {
	if n := int(ports[0]) / size; n == int(ports[1])/size {
		return n
	}
	return -1
}

// chain writes elements to a chain, or to some that it leads to.
func (l *lister) chain(name string, elements []element, level int) {
	c := &chain{name: name, origin: l.origin}
	l.t.table.chains = append(l.t.table.chains, c)
	if blocks := portBlocks(); len(elements) <= maxFlat || level == len(blocks) || l.asks == nil {
		for _, e := range elements {
			c.lines = append(c.lines, l.w.lines[e.from:e.to]...)
		}
		return
	}
	size := portBlocks()[level]
	blocks := map[int][]element{}
	for _, e := range elements {
		n := blockOf(e.ports, size)
		blocks[n] = append(blocks[n], e)
	}
	var split []int
	for _, e := range elements {
		n := blockOf(e.ports, size)
		if n < 0 || len(blocks[n]) < minSplit {
			c.lines = append(c.lines, l.w.lines[e.from:e.to]...)
		} else if !slices.Contains(split, n) {
			split = append(split, n)
		}
	}
	slices.Sort(split)
	for _, n := range split {
		low := n * size
		child := l.name + "_" + strconv.Itoa(low)
		if level == 0 {
			child = fmt.Sprintf("%s_%dk", l.name, low/1024)
		}
		child = chainName(child, l.t.place.mode)
		here := len(l.w.lines)
		l.w.write(alternative{condition: append(slices.Clone(l.of), l.asks(low, low+size-1))}, nil, "", "-g "+child)
		c.lines = append(c.lines, l.w.lines[here:]...)
		l.chain(child, blocks[n], level+1)
	}
}
