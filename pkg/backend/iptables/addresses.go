package iptables

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// addressSet is a set of the kernel (ip_set): prefixes of one family.
type addressSet struct {
	name     string
	family   ruleset.Family
	origin   ruleset.Origin
	elements plan.Elements // an address and a length each, in order

	members []uint32 // elements of the ruleset's set, until they are written
}

const (
	// setPrefix begins the names of our sets.
	setPrefix = "ipmasq-"
	// maxSet is the longest name of a set (IPSET_MAXNAMELEN).
	maxSet = 31
	// catalog is the set that keeps which entry each of the others is of.
	catalog = setPrefix + "entries"
	// maxElements is what the kernel lets into a set; it takes no memory for it.
	maxElements = 1 << 24
)

// Attributes of sets, in the snapshot.
const (
	ofIPv4    = "hash:net inet"
	ofIPv6    = "hash:net inet6"
	ofEntries = "hash:net inet comment"
)

// match is the condition that an address is in the set.
func (a *addressSet) match(f ruleset.Field) atom {
	side := "src"
	if f == ruleset.IPDaddr || f == ruleset.IP6Daddr {
		side = "dst"
	}
	return atom{slot: match, text: "-m set %s--match-set " + a.name + " " + side}
}

// setName is what a set is called. What tells it from others of its base, or a
// name that is too long, is told by a digest.
func setName(base, apart string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	name := setPrefix + base
	if apart == "" && len(name) <= maxSet && name != catalog && !strings.ContainsFunc(base, func(r rune) bool { return !plain(r) }) {
		return name
	}
	const digits = 6
	h := fnv.New64a()
	h.Write([]byte(base + "\x00" + apart))
	head := strings.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return '_'
	}, base)
	return setPrefix + head[:min(len(head), maxSet-len(setPrefix)-digits-1)] + "-" + fmt.Sprintf("%016x", h.Sum64())[:digits]
}

// fill writes the set of a group, or finds the one that holds the same. It says
// whether there could be one of that name.
func (t *translator) fill(set *ruleset.Set, g *group, fields []ruleset.Field) bool {
	from, _ := fieldBounds(fields, g.field)
	size := fields[g.field].Type().Size()
	a := g.addresses
	a.family, a.origin = t.family, set.Origin
	if o := set.OriginAt(g.first); o != ruleset.NoOrigin {
		a.origin = t.rules.Origins[o]
	}
	a.elements = plan.Elements{KeyLen: size + 1}
	a.elements.Grow(len(a.members), size+1)
	for _, i := range a.members {
		appendPrefixes(&a.elements, set.KeyAt(int(i))[from:from+size], highAt(set, int(i))[from:from+size])
	}
	a.elements.Sort()
	verdict := ""
	if set.IsVerdictMap() {
		verdict = fmt.Sprint(set.Verdicts[g.first].Kind, set.Verdicts[g.first].Chain)
	}
	a.members = nil
	// A source list with several ports is the same addresses with each of them.
	rest := bytes.Clone(set.KeyAt(g.first))
	copy(rest[from:], make([]byte, size))
	for _, apart := range []string{"", verdict + "\x00" + a.origin.Entry, verdict + "\x00" + a.origin.Entry + "\x00" + string(rest)} {
		if apart == "" && g.size != set.Len() {
			continue
		}
		name := setName(set.Name, apart)
		was, taken := t.addresses[name]
		if !taken {
			a.name = name
			t.addresses[name] = a
			return true
		}
		if was.family == a.family && was.origin.Entry == a.origin.Entry && sameElements(&was.elements, &a.elements) {
			g.addresses = was
			return true
		}
	}
	return false
}

// forgetUnused leaves out the sets that no line asks for in the end.
func (t *translator) forgetUnused() {
	if len(t.addresses) == 0 {
		return
	}
	used := map[string]*addressSet{}
	for _, tab := range t.tables {
		for _, c := range tab.chains {
			for _, l := range c.lines {
				for _, name := range setsIn(l.text) {
					used[name] = t.addresses[name]
				}
			}
		}
	}
	t.addresses = used
}

// setsIn are the sets that a line asks for.
func setsIn(text string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(text, "--match-set ")
		if !ok {
			return out
		}
		name, after, _ := strings.Cut(rest, " ")
		out, text = append(out, name), after
	}
}

func sameElements(a, b *plan.Elements) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !bytes.Equal(a.At(i), b.At(i)) {
			return false
		}
	}
	return true
}

// appendPrefixes appends the prefixes that a range is. The kernel knows none of
// length 0: all addresses are two halves.
func appendPrefixes(e *plan.Elements, lo, hi []byte) {
	if n, ok := prefixLength(lo, hi); ok && n > 0 {
		e.Append(plan.NoOrigin, lo, []byte{byte(n)})
		return
	}
	for _, p := range prefixes(address(lo), address(hi)) {
		if p.Bits() > 0 {
			e.Append(plan.NoOrigin, p.Addr().AsSlice(), []byte{byte(p.Bits())})
			continue
		}
		half := p.Addr().AsSlice()
		e.Append(plan.NoOrigin, half, []byte{1})
		half[0] = 0x80
		e.Append(plan.NoOrigin, half, []byte{1})
	}
}

// setsOf are sets in a snapshot, with the one that tells their entries: the
// kernel keeps a comment of an element, and none of a set.
func setsOf(sets map[string]*addressSet) []*plan.Set {
	if len(sets) == 0 {
		return nil
	}
	names := make([]string, 0, len(sets))
	for name := range sets {
		names = append(names, name)
	}
	slices.Sort(names)
	entries := &plan.Set{Name: catalog, Attributes: ofEntries, Origin: ruleset.Origin{Entry: "ipmasq"}, Elements: plan.Elements{KeyLen: 5}}
	out := []*plan.Set{entries}
	used := map[uint32]bool{}
	for _, name := range names {
		a := sets[name]
		attributes := ofIPv4
		if a.family == ruleset.IPv6 {
			attributes = ofIPv6
		}
		out = append(out, &plan.Set{Name: name, Attributes: attributes, Origin: a.origin, Elements: a.elements})
		h := fnv.New32a()
		h.Write([]byte(name))
		key := h.Sum32()
		for used[key] {
			key++
		}
		used[key] = true
		entries.Elements.Append(plan.NoOrigin, binary.BigEndian.AppendUint32(nil, key), []byte{32}, []byte(name+" "+a.origin.Entry))
	}
	return out
}

// nameSets gives sets that were read the entries that the catalog tells.
func nameSets(sets []*plan.Set) {
	entries := map[string]string{catalog: "ipmasq"}
	for _, s := range sets {
		if s.Name != catalog || s.Attributes != ofEntries {
			continue
		}
		for i := range s.Elements.Len() {
			if text := s.Elements.At(i); len(text) > s.Elements.KeyLen {
				name, entry, _ := strings.Cut(string(text[s.Elements.KeyLen:]), " ")
				entries[name] = entry
			}
		}
	}
	for _, s := range sets {
		s.Origin.Entry = entries[s.Name]
	}
}

// digest is a number of the elements of a set, whatever their order.
type digest struct {
	n   int
	sum uint64
}

func (d *digest) add(record []byte) {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, b := range record {
		h = (h ^ uint64(b)) * prime
	}
	// The sum of many needs bits that do not depend on each other.
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	d.n++
	d.sum += h ^ h>>31
}

func digestOf(e *plan.Elements) digest {
	var d digest
	for i := range e.Len() {
		d.add(e.At(i))
	}
	return d
}

// TextSets prints the sets of a ruleset as a file for ipset restore. The rules
// that Text prints ask for them.
func TextSets(w io.Writer, rs *ruleset.Ruleset) error {
	want, err := Want(rs)
	if err != nil {
		return err
	}
	return writeRestore(w, want.Sets)
}

func writeRestore(w io.Writer, sets []*plan.Set) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "# ipset restore")
	for _, s := range sets {
		family, comment := "inet", ""
		switch s.Attributes {
		case ofIPv6:
			family = "inet6"
		case ofEntries:
			comment = " comment"
		}
		fmt.Fprintf(out, "create %s hash:net family %s maxelem %d%s\n", s.Name, family, maxElements, comment)
		for i := range s.Elements.Len() {
			record, size := s.Elements.At(i), s.Elements.KeyLen-1
			fmt.Fprintf(out, "add %s %v/%d", s.Name, address(record[:size]), record[size])
			if text := record[size+1:]; len(text) > 0 {
				fmt.Fprintf(out, " comment \"%s\"", text)
			}
			fmt.Fprintln(out)
		}
	}
	return out.Flush()
}
