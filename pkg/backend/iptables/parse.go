package iptables

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// held is what is in the kernel: what is ours of it, and what each of our rules
// has counted.
type held struct {
	snapshot *plan.Snapshot
	counts   map[string][]plan.Count // by the name of the chain in the snapshot
	rules    uint32                  // a digest of all rules, ours and others'; a table that is looked at for the first time is no change
	sets     []heldSet
}

// generation is the digest of all that counts, but for some sets. It is not 0.
func (h *held) generation(but map[string]bool) uint32 {
	sum := fnv.New32a()
	fmt.Fprintln(sum, h.rules)
	writeSets(sum, h.sets, but)
	return max(sum.Sum32(), 1)
}

// parser reads what iptables-save -c prints of a family.
type parser struct {
	family   ruleset.Family
	table    []byte
	ours     bool           // we have chains in the table: others, such as security, are not ours to change
	chains   []plan.Chain   // ours, and built-in ones with jumps to them
	counts   [][]plan.Count // of the rules of each
	index    map[string]int // of the chains of this table
	rules    map[string]int // how many a built-in chain has
	counters counterNames
	spelling spelling
	sum      uint32 // of all lines that count
	kept     []byte // rules

	// What the rule before was like.
	last     int
	lastName string
	known    bool
	raw      []byte // its comment
	entry    string
	counter  *plan.Counter
}

func newParser(f ruleset.Family, protocols map[string]string) *parser {
	return &parser{family: f, spelling: spelling{f, protocols}, rules: map[string]int{}, counters: counterNames{}, last: -1}
}

// read reads it as it comes.
func (p *parser) read(r io.Reader) error {
	const longest = 1 << 20
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), longest)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for lines.Scan() {
		if counted := p.line(lines.Bytes()); counted != nil {
			p.sum = crc32.Update(crc32.Update(p.sum, castagnoli, p.table), castagnoli, counted)
		}
	}
	return lines.Err()
}

// join puts together what was read of both families, of the sets and of timeout
// objects.
func join(parsers []*parser, sets []heldSet, timeouts []found) *held {
	h := &held{snapshot: &plan.Snapshot{}, counts: map[string][]plan.Count{}, sets: sets}
	sum, counters := fnv.New32a(), counterNames{}
	for _, p := range parsers {
		h.snapshot.Chains = append(h.snapshot.Chains, p.chains...)
		for i := range p.chains {
			h.counts[p.chains[i].Name] = p.counts[i]
		}
		for _, c := range p.counters {
			counters.note(c.Name, c.Origin, plan.Count{Packets: c.Packets, Bytes: c.Bytes})
		}
		fmt.Fprintln(sum, p.family, p.sum)
	}
	for i := range sets {
		h.snapshot.Sets = append(h.snapshot.Sets, sets[i].set)
	}
	nameSets(h.snapshot.Sets)
	if len(timeouts) > 0 {
		fmt.Fprintln(sum, timeouts)
	}
	h.snapshot.Counters, h.snapshot.Objects = counters.counters(), objects(timeouts, h.snapshot)
	h.snapshot.Normalize()
	h.rules = sum.Sum32()
	h.snapshot.Generation = h.generation(nil)
	return h
}

// line reads a line, and gives what of it counts as a rule.
func (p *parser) line(text []byte) []byte {
	count, text := countOf(text)
	count, text = uncarried(count, text)
	switch {
	case len(text) == 0, text[0] == '#', string(text) == "COMMIT":
		return nil
	case text[0] == '*':
		p.begin(text[1:])
		return nil
	case text[0] == ':':
		text, _, _ = bytes.Cut(text, []byte(" ["))
		if bytes.HasSuffix(text, []byte(" ACCEPT")) {
			return nil
		}
		if name, _, _ := bytes.Cut(text[1:], []byte{' '}); bytes.HasPrefix(name, []byte(prefix)) && p.ours {
			p.chain(name)
		}
	case bytes.HasPrefix(text, []byte("-A ")) && p.ours:
		chain, body, _ := bytes.Cut(text[3:], []byte{' '})
		p.rule(chain, p.spelling.of(body), count)
	}
	return text
}

// begin begins a table.
func (p *parser) begin(table []byte) {
	p.table, p.ours = bytes.Clone(table), slices.Contains(tableNames(), string(table))
	p.index, p.last = map[string]int{}, -1
}

// chain gives the number of a chain of the table, which is noted if it is new.
func (p *parser) chain(name []byte) int {
	if p.last >= 0 && string(name) == p.lastName {
		return p.last
	}
	i, ok := p.index[string(name)]
	if !ok {
		i = len(p.chains)
		p.index[string(name)] = i
		p.chains = append(p.chains, plan.Chain{Name: chainKey(p.family, string(p.table), string(name))})
		p.counts = append(p.counts, nil)
	}
	p.last, p.lastName = i, string(name)
	return i
}

// rule notes a rule that is ours, or that leads to us.
func (p *parser) rule(chain, rule []byte, count plan.Count) {
	p.comment(rule)
	r := plan.Rule{Origin: ruleset.Origin{Entry: p.entry}}
	if string(chain) == notes {
		r.Origin.Entry = "timeouts"
	}
	if bytes.HasPrefix(chain, []byte(prefix)) {
		r.Body = p.keep(rule)
		if p.counter != nil {
			p.counter.Packets, p.counter.Bytes = p.counter.Packets+count.Packets, p.counter.Bytes+count.Bytes
		}
	} else {
		at := string(p.table) + " " + string(chain)
		p.rules[at]++
		if !strings.HasPrefix(targetOf(string(rule)), prefix) {
			return
		}
		place := p.rules[at]
		if string(chain) == userChain {
			place = 1 // what users put before it is theirs to put there
		}
		r.Body = jumpBody(place, string(rule))
	}
	i := p.chain(chain)
	p.chains[i].Rules = append(p.chains[i].Rules, r)
	p.counts[i] = append(p.counts[i], count)
}

// comment finds out which entry and counter a rule is of: mostly those of the
// rule before it.
func (p *parser) comment(rule []byte) {
	raw := rawComment(rule)
	if p.known && bytes.Equal(raw, p.raw) {
		return
	}
	entry, counter := uncomment(commentOf(string(rule)))
	p.raw, p.known, p.entry, p.counter = append(p.raw[:0], raw...), true, entry, nil
	if counter != "" {
		p.counters.note(counter, ruleset.Origin{Entry: entry}, plan.Count{})
		p.counter = p.counters[counter]
	}
}

// keep copies a rule to where many are side by side.
func (p *parser) keep(rule []byte) []byte {
	const block = 64 << 10
	if len(p.kept)+len(rule) > cap(p.kept) {
		p.kept = make([]byte, 0, max(block, len(rule)))
	}
	from := len(p.kept)
	p.kept = append(p.kept, rule...)
	return p.kept[from:len(p.kept):len(p.kept)]
}

// countOf takes "[packets:bytes] " from the beginning of a line.
func countOf(text []byte) (plan.Count, []byte) {
	if !bytes.HasPrefix(text, []byte{'['}) {
		return plan.Count{}, text
	}
	inside, rest, ok := bytes.Cut(text[1:], []byte("] "))
	if !ok {
		return plan.Count{}, text
	}
	if string(inside) == "0:0" {
		return plan.Count{}, rest
	}
	p, b, _ := strings.Cut(string(inside), ":")
	packets, _ := strconv.ParseUint(p, 10, 64)
	count, _ := strconv.ParseUint(b, 10, 64)
	return plan.Count{Packets: packets, Bytes: count}, rest
}

// rawComment is the comment of a rule as it is printed.
func rawComment(rule []byte) []byte {
	_, rest, ok := bytes.Cut(rule, []byte("--comment "))
	if !ok {
		return nil
	}
	if !bytes.HasPrefix(rest, []byte{'"'}) {
		word, _, _ := bytes.Cut(rest, []byte{' '})
		return word
	}
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			return rest[:i+1]
		}
	}
	return rest
}

// commentOf is the comment of a rule, or "".
func commentOf(rule string) string {
	_, rest, ok := strings.Cut(rule, "--comment ")
	if !ok {
		return ""
	}
	if !strings.HasPrefix(rest, `"`) {
		word, _, _ := strings.Cut(rest, " ")
		return word
	}
	var out strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && i+1 < len(rest):
			i++
			out.WriteByte(rest[i])
		case rest[i] == '"':
			return out.String()
		default:
			out.WriteByte(rest[i])
		}
	}
	return out.String()
}

// targetOf is the chain that a rule leads to, or its target. Words of others are
// in quotes: a prefix of a log, a comment.
func targetOf(rule string) string {
	target, inQuotes := "", false
	for i := 0; i < len(rule); i++ {
		switch c := rule[i]; {
		case c == '"':
			inQuotes = !inQuotes
		case inQuotes && c == '\\':
			i++
		case inQuotes || c != '-' || i > 0 && rule[i-1] != ' ':
		case strings.HasPrefix(rule[i:], "-j "), strings.HasPrefix(rule[i:], "-g "):
			target, _, _ = strings.Cut(rule[i+len("-j "):], " ")
		}
	}
	return target
}
