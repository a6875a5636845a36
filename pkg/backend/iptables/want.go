package iptables

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Want translates a ruleset. The error joins a [*backend.Refused] for each
// thing that iptables cannot do.
func (*Backend) Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) { return Want(rs) }

// Want is what a ruleset is in iptables.
func Want(rs *ruleset.Ruleset) (*plan.Snapshot, error) {
	if err := backend.Check(rs); err != nil {
		return nil, err
	}
	tables, refused := translate(rs)
	if len(refused) > 0 {
		errs := make([]error, len(refused))
		for i, r := range refused {
			errs[i] = r
		}
		return nil, errors.Join(errs...)
	}
	s := snapshot(tables)
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
func snapshot(tables []*table) *plan.Snapshot {
	s := &plan.Snapshot{}
	b := counterNames{}
	for _, t := range tables {
		for _, h := range t.hooks {
			c := plan.Chain{Name: chainKey(t.family, t.name, h.builtin), Origin: ruleset.Origin{Entry: "ipmasq"}}
			for i, to := range h.chains {
				c.Rules = append(c.Rules, plan.Rule{Body: jumpBody(i+1, jumpTo(to)), Origin: ruleset.Origin{Entry: "ipmasq"}})
			}
			s.Chains = append(s.Chains, c)
		}
		for _, x := range t.chains {
			c := plan.Chain{Name: chainKey(t.family, t.name, x.name), Origin: x.origin}
			for _, l := range x.lines {
				c.Rules = append(c.Rules, plan.Rule{Body: []byte(l.text), Origin: l.origin})
				b.note(l.text, l.origin, plan.Count{})
			}
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

func (b counterNames) note(text string, o ruleset.Origin, n plan.Count) {
	_, name := uncomment(commentOf(text))
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
// or ip6tables-restore with --noflush.
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
	held := &held{snapshot: &plan.Snapshot{}}
	for _, file := range files(plan.Diff(held.snapshot, want), held) {
		if file.family != f {
			continue
		}
		if _, err := io.WriteString(w, file.text(false)); err != nil {
			return err
		}
	}
	return nil
}
