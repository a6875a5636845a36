package iptables

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// What a packet must not be is a match of its own in a line, and of some things
// a line takes one. What is too much leads to a chain in which those that are
// excluded turn back, and where the others meet the target.

// split takes out of a condition what a line cannot exclude: out are the
// conditions for packets that it is not about.
func (c condition) split() (in condition, out []condition) {
	excluded := 0
	for _, a := range c {
		if a.not {
			excluded++
		}
	}
	if excluded == 0 {
		return c, nil
	}
	in = c
	moved := map[atom]bool{}
	var order []atom
	move := func(which func(atom) bool) {
		var left condition
		for _, a := range in {
			switch {
			case !a.not || !which(a):
				left = append(left, a)
			case !moved[a]:
				moved[a] = true
				order = append(order, a)
			}
		}
		in = left
	}
	if excluded > maxExcluded {
		move(func(a atom) bool { return a.slot != protocol && a.slot != input && a.slot != output })
	}
	for _, s := range []slot{input, output} {
		if _, _, err := oneInterface(in.of(s)); err != nil {
			move(func(a atom) bool { return a.slot == s })
		}
	}
	if _, _, err := oneProtocol(in.of(protocol)); err != nil {
		first := in.of(protocol)[0]
		move(func(a atom) bool { return a.slot == protocol && a != first })
	}
	for _, a := range order {
		x := condition{a.negated()}
		for _, p := range in.of(protocol) { // ports and the like are of one
			if a.slot != protocol && !p.not {
				x = append(x, p)
			}
		}
		out = append(out, x)
	}
	return in, out
}

// returning says whether a target goes back, or elsewhere for good: from another
// chain that would be another way.
func returning(target string) bool {
	return target == "-j RETURN" || strings.HasPrefix(target, "-g ")
}

// excluding writes a line for packets of which some are excluded: those that
// come back meet what stands behind the line.
func (w *writer) excluding(in condition, out []condition, limits []string, behind line, target string) error {
	text, possible, err := in.text()
	if err != nil || !possible {
		return err
	}
	var turned []string
	known := map[string]bool{}
	for _, c := range out {
		if returning(target) {
			c = append(slices.Clone(in), c...)
		}
		one, possible, err := c.text()
		if err != nil {
			return err
		}
		if possible && !known[one] {
			known[one] = true
			turned = append(turned, one)
		}
	}
	o := behind.origin
	h := fnv.New32a()
	if returning(target) {
		fmt.Fprint(h, w.chain, text, turned, limits, behind.text)
		rest := chainName(fmt.Sprintf("rest_%08x", h.Sum32()), plain)
		for _, x := range turned {
			w.lines = append(w.lines, finish(x, o, "", "-g "+rest))
		}
		last := behind
		last.text = joined(text, strings.Join(limits, " "), behind.text)
		last.rest = rest
		w.lines = append(w.lines, last)
		return nil
	}
	// What some targets want the line itself to say.
	var needed condition
	for _, a := range in {
		if a.slot == protocol || a.slot == flags || a.slot == tcpOption {
			needed = append(needed, a)
		}
	}
	again, _, err := needed.text()
	if err != nil {
		return err
	}
	fmt.Fprint(h, turned, again, limits, behind.text)
	name := chainName(fmt.Sprintf("but_%08x", h.Sum32()), plain)
	w.lines = append(w.lines, finish(text, o, "", "-j "+name))
	if slices.ContainsFunc(w.table.chains, func(c *chain) bool { return c.name == name }) {
		return nil
	}
	c := &chain{name: name, origin: o}
	for _, x := range turned {
		c.lines = append(c.lines, finish(x, o, "", "-j RETURN"))
	}
	last := behind
	last.text = joined(again, strings.Join(limits, " "), behind.text)
	c.lines = append(c.lines, last)
	w.table.chains = append(w.table.chains, c)
	return nil
}
