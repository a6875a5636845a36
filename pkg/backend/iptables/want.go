package iptables

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Want translates a ruleset. What iptables cannot do of it is a
// [backend.Inexpressible].
func (b *Backend) Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) {
	s, err := want(rs, b.kernel)
	if err == nil {
		b.leadFromUsers(s, rs.Docker)
	}
	return s, err
}

// Want is what a ruleset is in iptables, with a kernel that has sets.
func Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) { return want(rs, newest()) }

func want(rs *ruleset.Ruleset, k kernel) (*plan.Snapshot, error) {
	if err := backend.Check(rs); err != nil {
		return nil, err
	}
	made := translate(rs, k)
	if len(made.refused) > 0 {
		return nil, backend.Inexpressible(made.refused)
	}
	s := snapshot(made)
	counters := map[string]ruleset.Origin{}
	for _, c := range rs.Counters {
		counters[c.Name] = c.Origin
	}
	for i := range s.Counters {
		if o, ok := counters[s.Counters[i].Name]; ok {
			s.Counters[i].Origin = o
		}
	}
	return s, nil
}

// snapshot reduces tables to chains. A built-in chain has the jumps to ours,
// with their places among all its rules.
func snapshot(made *translated) *plan.Snapshot {
	s := &plan.Snapshot{Sets: setsOf(made.sets), Objects: made.timeouts}
	b := counterNames{}
	for _, t := range made.tables {
		for _, h := range t.hooks {
			c := plan.Chain{Name: chainKey(t.family, t.name, h.builtin), Origin: ruleset.Origin{Entry: "ipmasq"}}
			for i, to := range h.chains {
				c.Rules = append(c.Rules, plan.Rule{Body: jumpBody(i+1, jumpTo(to)), Origin: ruleset.Origin{Entry: "ipmasq"}})
			}
			s.Chains = append(s.Chains, c)
		}
		for _, x := range t.chains {
			c := plan.Chain{Name: chainKey(t.family, t.name, x.name), Origin: x.origin}
			size := 0
			for _, l := range x.lines {
				size += len(l.text)
			}
			text := make([]byte, 0, size) // one for all
			c.Rules = make([]plan.Rule, 0, len(x.lines))
			for _, l := range x.lines {
				from := len(text)
				text = append(text, l.text...)
				c.Rules = append(c.Rules, plan.Rule{Body: text[from:len(text):len(text)], Origin: l.origin})
				b.note(l.counter, l.origin, plan.Count{})
			}
			s.Chains = append(s.Chains, c)
		}
	}
	for _, f := range families() {
		c := plan.Chain{Name: timeoutsOf(f), Origin: ruleset.Origin{Entry: "timeouts"}}
		for i := range made.timeouts {
			if k, _ := timeoutKindOf(made.timeouts[i].Name); k.family == f {
				note := timeoutNote(&made.timeouts[i])
				c.Rules = append(c.Rules, plan.Rule{Body: []byte(note.text), Origin: note.origin})
			}
		}
		if len(c.Rules) > 0 {
			s.Chains = append(s.Chains, c)
		}
	}
	s.Counters = b.counters()
	s.Normalize()
	return s
}

// jumpTo is the rule of a built-in chain that leads to one of ours.
func jumpTo(chain string) string { return comment("ipmasq", "") + " -j " + chain }

// jumpBody is such a rule with its place, from 1.
func jumpBody(at int, text string) []byte { return fmt.Appendf(nil, "%d %s", at, text) }

// chainKey names a chain in a snapshot.
func chainKey(f ruleset.Family, table, chain string) string {
	name := "ipv4"
	if f == ruleset.IPv6 {
		name = "ipv6"
	}
	return name + " " + table + " " + chain
}

// keyOf takes apart what chainKey made.
func keyOf(key string) (f ruleset.Family, table, chain string) {
	parts := strings.SplitN(key, " ", 3)
	f = ruleset.IPv4
	if parts[0] == "ipv6" {
		f = ruleset.IPv6
	}
	return f, parts[1], parts[2]
}

// counterNames collects what lines count for.
type counterNames map[string]*plan.Counter

func (b counterNames) note(name string, o ruleset.Origin, n plan.Count) {
	if name == "" {
		return
	}
	c := b[name]
	if c == nil {
		c = &plan.Counter{Name: name, Origin: o}
		b[name] = c
	}
	c.Packets, c.Bytes = c.Packets+n.Packets, c.Bytes+n.Bytes
}

func (b counterNames) counters() []plan.Counter {
	out := make([]plan.Counter, 0, len(b))
	for _, c := range b {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(x, y plan.Counter) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// Text prints what a ruleset is in one family, as a file for iptables-restore
// or ip6tables-restore with --noflush. What TextSets prints goes before it.
func Text(w io.Writer, rs *ruleset.Ruleset, f ruleset.Family) error {
	want, err := Want(rs)
	if err != nil {
		return err
	}
	program := "iptables-restore"
	if f == ruleset.IPv6 {
		program = "ip6tables-restore"
	}
	if _, err := fmt.Fprintf(w, "# %s --noflush --wait\n", program); err != nil {
		return err
	}
	if len(want.Sets) > 0 {
		if _, err := fmt.Fprintln(w, "# the sets go first: ipmasq render --format ipset | ipset restore"); err != nil {
			return err
		}
	}
	for i := range want.Objects {
		if k, _ := timeoutKindOf(want.Objects[i].Name); k.family == f {
			if _, err := fmt.Fprintf(w, "# before: %s\n", nfct(&want.Objects[i])); err != nil {
				return err
			}
		}
	}
	held := &held{snapshot: &plan.Snapshot{}}
	for _, file := range files(plan.Diff(held.snapshot, want), held) {
		if file.family != f {
			continue
		}
		if _, err := w.Write(file.write(nil, false)); err != nil {
			return err
		}
	}
	return nil
}
