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

// fileLine is a line with what it is for.
type fileLine struct {
	text   string
	count  *plan.Count // of a rule
	origin ruleset.Origin
}

// write appends the file, with what the rules have counted or without.
func (f *file) write(b []byte, counts bool) []byte {
	b = append(append(append(b, '*'), f.table...), '\n')
	for _, l := range f.lines {
		if counts && l.count != nil && *l.count != (plan.Count{}) {
			b = fmt.Appendf(b, "[%d:%d] ", l.count.Packets, l.count.Bytes)
		}
		b = append(append(b, l.text...), '\n')
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
		for _, l := range x.lines {
			size += len(l.text) + 10
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
	add := func(f *file, text string) { f.lines = append(f.lines, fileLine{text: text}) }
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
		for _, r := range wide[c.name()].rules {
			early[f.family].lines = append(early[f.family].lines, fileLine{"-A " + chain + " " + string(r.Body), nil, r.Origin})
		}
		for i, r := range c.to.Rules {
			f.lines = append(f.lines, fileLine{"-A " + chain + " " + string(r.Body), &counts[c.to.Name][i], r.Origin})
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
			f.lines = append(f.lines, fileLine{"-D " + chain + " " + rule, nil, r.Origin})
		}
	}
	if c.to != nil {
		for _, r := range c.to.Rules {
			at, rule, _ := strings.Cut(string(r.Body), " ")
			f.lines = append(f.lines, fileLine{"-I " + chain + " " + at + " " + rule, nil, r.Origin})
		}
	}
}

// carry says what each rule of a chain that is filled again has counted, and
// which chains those are: one may be filled only to keep a count.
func carry(changes *plan.Changes, now *held) (map[string][]plan.Count, []changedChain) {
	counts := map[string][]plan.Count{}
	var changed []changedChain
	touched := map[string]bool{}
	touch := func(from, to *plan.Chain) {
		c := changedChain{from, to}
		if touched[c.name()] {
			return
		}
		touched[c.name()] = true
		changed = append(changed, c)
		if to == nil {
			return
		}
		next := make([]plan.Count, len(to.Rules))
		if from != nil {
			was := map[string][]plan.Count{}
			for i, r := range from.Rules {
				if i < len(now.counts[from.Name]) {
					was[string(r.Body)] = append(was[string(r.Body)], now.counts[from.Name][i])
				}
			}
			for i, r := range to.Rules {
				if list := was[string(r.Body)]; len(list) > 0 {
					next[i], was[string(r.Body)] = list[0], list[1:]
				}
			}
		}
		counts[to.Name] = next
	}
	for _, c := range changes.Chains {
		var from, to *plan.Chain
		if c.From >= 0 {
			from = &changes.From.Chains[c.From]
		}
		if c.To >= 0 {
			to = &changes.To.Chains[c.To]
		}
		touch(from, to)
	}
	// What each counter loses.
	lost := map[string]plan.Count{}
	tally := func(c *plan.Chain, n []plan.Count, sign uint64) {
		for i, r := range c.Rules {
			// What an element has counted goes with it.
			if _, name := uncomment(commentOf(string(r.Body))); name != "" && !strings.Contains(name, "+") && i < len(n) {
				x := lost[name]
				x.Packets, x.Bytes = x.Packets+sign*n[i].Packets, x.Bytes+sign*n[i].Bytes
				lost[name] = x
			}
		}
	}
	for _, c := range changed {
		if c.from != nil {
			tally(c.from, now.counts[c.from.Name], 1)
		}
		if c.to != nil {
			tally(c.to, counts[c.to.Name], ^uint64(0)) // minus
		}
	}
	give := func(c *plan.Chain) {
		for i, r := range c.Rules {
			_, name := uncomment(commentOf(string(r.Body)))
			if x := lost[name]; name != "" && x != (plan.Count{}) {
				n := &counts[c.Name][i]
				n.Packets, n.Bytes = n.Packets+x.Packets, n.Bytes+x.Bytes
				delete(lost, name)
			}
		}
	}
	for _, c := range changed {
		if c.to != nil {
			give(c.to)
		}
	}
	for name, x := range lost {
		if x == (plan.Count{}) {
			delete(lost, name)
		}
	}
	for i := 0; i < len(changes.To.Chains) && len(lost) > 0; i++ {
		c := &changes.To.Chains[i]
		if touched[c.Name] {
			continue
		}
		for _, r := range c.Rules {
			if _, name := uncomment(commentOf(string(r.Body))); name != "" && lost[name] != (plan.Count{}) {
				touch(c, c)
				give(c)
				break
			}
		}
	}
	return counts, changed
}
