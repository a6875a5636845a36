package iptables

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// file is what iptables-restore is given for one table of one family.
type file struct {
	family ruleset.Family
	table  string
	lines  []fileLine
}

// fileLine is a line with what it is for: a rule of a chain, or a command.
type fileLine struct {
	head   string // the command, or "-A", the chain and a space
	body   []byte // the rule
	count  plan.Count
	origin ruleset.Origin
}

func (l *fileLine) text() string { return l.head + string(l.body) }

// write appends the file, with what the rules have counted or without.
func (f *file) write(b []byte, counts bool) []byte {
	b = append(append(append(b, '*'), f.table...), '\n')
	for i := range f.lines {
		l := &f.lines[i]
		if counts && l.count != (plan.Count{}) {
			b = fmt.Appendf(b, "[%d:%d] ", l.count.Packets, l.count.Bytes)
		}
		b = append(append(append(b, l.head...), l.body...), '\n')
	}
	return append(b, "COMMIT\n"...)
}

// batch is what one iptables-restore is given: files of a family, which it
// commits one after the other.
type batch struct {
	family ruleset.Family
	files  []*file
}

func batches(files []*file) []*batch {
	var out []*batch
	for _, f := range files {
		if n := len(out); n == 0 || out[n-1].family != f.family {
			out = append(out, &batch{family: f.family})
		}
		last := out[len(out)-1]
		last.files = append(last.files, f)
	}
	return out
}

func (f *batch) text() []byte {
	size := 0
	for _, x := range f.files {
		size += 20
		for i := range x.lines {
			size += len(x.lines[i].head) + len(x.lines[i].body) + 10
		}
	}
	b := make([]byte, 0, size)
	for _, x := range f.files {
		b = x.write(b, true)
	}
	return b
}

// files are the changes as iptables-restore takes them, in the order in which
// they are to be made. A rule that stays keeps what it has counted; what a rule
// that goes has counted for a counter, another one of that counter takes on.
func files(changes *plan.Changes, now *held) []*file {
	counts, changed := carry(changes, now)
	return write(changes, counts, changed, nil)
}

// steadily is files where packets pass meanwhile, see [widen].
func steadily(changes *plan.Changes, now *held) []*file {
	counts, changed := carry(changes, now)
	if len(changes.To.Chains) == 0 {
		return write(changes, counts, changed, nil)
	}
	return write(changes, counts, changed, widen(changes, changed))
}

// write writes the files, with those of nat twice where some of its chains are
// wide before filter changes.
func write(changes *plan.Changes, counts map[string][]plan.Count, changed []changedChain, wide map[string]widened) []*file {
	byTable := map[[2]string]*file{}
	early := map[ruleset.Family]*file{}
	var out []*file
	for _, f := range families() {
		early[f] = &file{family: f, table: "nat"}
		for _, table := range tableNames() {
			if table == "filter" {
				out = append(out, early[f])
			}
			x := &file{family: f, table: table}
			byTable[[2]string{fmt.Sprint(f), table}] = x
			out = append(out, x)
		}
	}
	if len(changes.To.Chains) == 0 {
		slices.Reverse(out) // the guard goes last
	}
	of := func(key string) (*file, string) {
		f, table, chain := keyOf(key)
		if wide[key].whole {
			return early[f], chain
		}
		return byTable[[2]string{fmt.Sprint(f), table}], chain
	}
	add := func(f *file, text string) { f.lines = append(f.lines, fileLine{head: text}) }
	room := map[*file]int{}
	for _, c := range changed {
		f, _ := of(c.name())
		if room[f]++; c.to != nil {
			room[f] += len(c.to.Rules)
		}
	}
	for f, n := range room {
		f.lines = make([]fileLine, 0, n)
	}
	// Chains first, since others may lead to them. One that is there is emptied.
	for _, c := range changed {
		key := c.name()
		if f, chain := of(key); strings.HasPrefix(chain, prefix) {
			add(f, ":"+chain+" - [0:0]")
			if wide[key].rules != nil {
				add(early[f.family], ":"+chain+" - [0:0]")
			}
		}
	}
	for _, c := range changed {
		f, chain := of(c.name())
		if !strings.HasPrefix(chain, prefix) {
			c.jumps(f, chain)
			continue
		}
		if c.to == nil {
			continue
		}
		head, counted := "-A "+chain+" ", counts[c.to.Name]
		for _, r := range wide[c.name()].rules {
			early[f.family].lines = append(early[f.family].lines, fileLine{head: head, body: r.Body, origin: r.Origin})
		}
		for i := range c.to.Rules {
			r := &c.to.Rules[i]
			l := fileLine{head: head, body: r.Body, origin: r.Origin}
			if counted != nil {
				l.count = counted[i]
			}
			f.lines = append(f.lines, l)
		}
	}
	for _, c := range changed {
		if f, chain := of(c.name()); c.to == nil && strings.HasPrefix(chain, prefix) {
			add(f, "-X "+chain)
		}
	}
	return slices.DeleteFunc(out, func(f *file) bool { return len(f.lines) == 0 })
}

// changedChain is a chain that differs; nil where it is not there.
type changedChain struct{ from, to *plan.Chain }

func (c changedChain) name() string {
	if c.to != nil {
		return c.to.Name
	}
	return c.from.Name
}

// jumps takes our jumps out of a built-in chain and puts in others.
func (c changedChain) jumps(f *file, chain string) {
	if c.from != nil {
		for _, r := range c.from.Rules {
			_, rule, _ := strings.Cut(string(r.Body), " ")
			f.lines = append(f.lines, fileLine{head: "-D " + chain + " " + rule, origin: r.Origin})
		}
	}
	if c.to != nil {
		for _, r := range c.to.Rules {
			at, rule, _ := strings.Cut(string(r.Body), " ")
			f.lines = append(f.lines, fileLine{head: "-I " + chain + " " + at + " " + rule, origin: r.Origin})
		}
	}
}
