package plan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// at gives an entry with a line.
func at(entry string, line int) ruleset.Origin {
	return ruleset.Origin{Entry: entry, Place: ruleset.Place{File: "policy.yaml", Line: line, Column: 3}}
}

func chain(name, attributes string, rules ...string) Chain {
	c := Chain{Name: name, Attributes: attributes, Origin: ruleset.Origin{Entry: name}}
	for _, r := range rules {
		entry, body, _ := strings.Cut(r, ":")
		c.Rules = append(c.Rules, Rule{Body: []byte(body), Origin: ruleset.Origin{Entry: entry}})
	}
	return c
}

// set gives a set with keys of two bytes; elements are "entry:record", or
// "record" for one without an entry of its own.
func set(s *Snapshot, name, attributes string, elements ...string) *Set {
	out := &Set{Name: name, Attributes: attributes, Origin: ruleset.Origin{Entry: "set " + name}}
	out.Elements.KeyLen = 2
	for _, e := range elements {
		entry, record, own := strings.Cut(e, ":")
		origin := uint32(NoOrigin)
		if own {
			origin = uint32(len(s.Origins))
			s.Origins = append(s.Origins, ruleset.Origin{Entry: entry})
		} else {
			record = entry
		}
		out.Elements.Append(origin, []byte(record))
	}
	s.Sets = append(s.Sets, out)
	return out
}

func TestDiff(t *testing.T) {
	t.Parallel()
	type side func(*Snapshot)
	chains := func(c ...Chain) side { return func(s *Snapshot) { s.Chains = append(s.Chains, c...) } }
	elements := func(attributes string, e ...string) side {
		return func(s *Snapshot) { set(s, "s", attributes, e...) }
	}
	counters := func(names ...string) side {
		return func(s *Snapshot) {
			for _, n := range names {
				s.Counters = append(s.Counters, Counter{Name: n, Packets: uint64(len(s.Counters))})
			}
		}
	}
	objects := func(list ...string) side {
		return func(s *Snapshot) {
			for _, o := range list {
				f := strings.Fields(o)
				s.Objects = append(s.Objects, Object{Kind: ObjectKind(f[0] + " " + f[1]), Name: f[2], Attributes: f[3]})
			}
		}
	}
	for _, c := range []struct {
		name     string
		from, to side
		want     string
	}{
		{"nothing", chains(), chains(), ""},
		{"same", chains(chain("a", "", "e:x", "f:y")), chains(chain("a", "", "e:x", "f:y")), ""},
		{"new chain", chains(), chains(chain("a", "")), "chain a 1"},
		{"old chain", chains(chain("a", ""), chain("b", "")), chains(chain("b", "")), "chain a 2"},
		{"rule", chains(chain("a", "", "e:x")), chains(chain("a", "", "e:y")), "chain a 0"},
		{"entry of a rule", chains(chain("a", "", "e:x")), chains(chain("a", "", "f:x")), "chain a 0"},
		{"order of rules", chains(chain("a", "", "e:x", "f:y")), chains(chain("a", "", "f:y", "e:x")), "chain a 0"},
		{"one rule more", chains(chain("a", "", "e:x")), chains(chain("a", "", "e:x", "e:x")), "chain a 0"},
		{"hook", chains(chain("a", "h", "e:x")), chains(chain("a", "", "e:x")), "chain a 3"},
		{"order of chains", chains(chain("b", ""), chain("a", "")), chains(chain("a", ""), chain("b", "")), ""},
		{"same elements", elements("", "aa", "e:bb"), elements("", "e:bb", "aa"), ""},
		{"element more", elements("", "aa"), elements("", "aa", "bb"), "set s 0 [] [1]"},
		{"element less", elements("", "aa", "bb"), elements("", "bb"), "set s 0 [0] []"},
		{"value", elements("", "aa1", "bb"), elements("", "aa2", "bb"), "set s 0 [0] [0]"},
		{"entry of an element", elements("", "e:aa"), elements("", "f:aa"), "set s 0 [0] [0]"},
		{"no entry", elements("", "e:aa"), elements("", "aa"), "set s 0 [0] [0]"},
		{"entry without a name", elements("", ":aa"), elements("", "aa"), ""},
		{"all other", elements("", "aa", "cc"), elements("", "bb", "dd"), "set s 0 [0 1] [0 1]"},
		{"attributes", elements("x", "aa"), elements("y", "aa"), "set s 3 [] []"},
		{"new set", chains(), elements("", "aa"), "set s 1 [] []"},
		{"old set", elements("", "aa"), chains(), "set s 2 [] []"},
		{"same objects", objects("ct helper ftp x", "ct timeout a y"), objects("ct timeout a y", "ct helper ftp x"), ""},
		{"objects", objects("ct helper a x", "ct helper b x"), objects("ct helper b x", "ct helper c x"), "ct helper a 2, ct helper c 1"},
		{"another object", objects("ct timeout a x"), objects("ct timeout a y"), "ct timeout a 3"},
		{"another kind of object", objects("ct helper a x"), objects("ct timeout a x"), "ct helper a 2, ct timeout a 1"},
		{"counters", counters("a", "b"), counters("b", "c"), "counter a 2, counter c 1"},
	} {
		from, to := &Snapshot{}, &Snapshot{}
		c.from(from)
		c.to(to)
		from.Normalize()
		to.Normalize()
		changes := Diff(from, to)
		if got := told(changes); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if changes.Empty() != (c.want == "") || changes.Empty() != (from.Digest() == to.Digest()) {
			t.Errorf("%s: empty %v, digests equal %v", c.name, changes.Empty(), from.Digest() == to.Digest())
		}
		if changes.From != from || changes.To != to {
			t.Errorf("%s: other sides", c.name)
		}
	}
}

// told writes changes in short.
func told(c *Changes) string {
	var out []string
	for _, x := range c.Chains {
		s, i := c.To, x.To
		if i < 0 {
			s, i = c.From, x.From
		}
		out = append(out, fmt.Sprintf("chain %s %d", s.Chains[i].Name, x.Kind))
	}
	for _, x := range c.Sets {
		s, i := c.To, x.To
		if i < 0 {
			s, i = c.From, x.From
		}
		out = append(out, fmt.Sprintf("set %s %d %v %v", s.Sets[i].Name, x.Kind, x.Removed, x.Added))
	}
	for _, x := range c.Counters {
		s, i := c.To, x.To
		if i < 0 {
			s, i = c.From, x.From
		}
		out = append(out, fmt.Sprintf("counter %s %d", s.Counters[i].Name, x.Kind))
	}
	for _, x := range c.Objects {
		s, i := c.To, x.To
		if i < 0 {
			s, i = c.From, x.From
		}
		out = append(out, fmt.Sprintf("%s %d", &s.Objects[i], x.Kind))
	}
	return strings.Join(out, ", ")
}

func TestEntries(t *testing.T) {
	t.Parallel()
	from, to := &Snapshot{}, &Snapshot{}
	from.Chains = []Chain{chain("f", "", "forward a:x", "forward b:y", "forward b:z", "forward gone:w")}
	to.Chains = []Chain{chain("f", "", "forward b:y", "forward new:v", "forward b:u", "forward a:x", "zones:q")}
	lines := map[string]int{"forward a": 9, "forward b": 7, "forward new": 5, "zones": 1}
	for i := range to.Chains[0].Rules {
		o := &to.Chains[0].Rules[i].Origin
		*o = at(o.Entry, lines[o.Entry]+i)
	}
	set(from, "m", "", "port_forward web:aa1", "port_forward mail:bb1", "cc1")
	set(to, "m", "", "port_forward web:aa2", "port_forward mail:bb1", "port_forward ssh:dd1")
	for i := range to.Origins {
		to.Origins[i] = at(to.Origins[i].Entry, 20+i)
	}
	from.Counters = []Counter{{Name: "old", Origin: ruleset.Origin{Entry: "masquerade old"}}}
	to.Counters = []Counter{{Name: "young", Origin: at("masquerade young", 2)}}
	from.Objects = []Object{
		{Kind: CtTimeout, Name: "t", Attributes: "x", Origin: ruleset.Origin{Entry: "masquerade t"}},
		{Kind: Flowtable, Name: "fast"}, // of which the kernel keeps no entry
	}
	to.Objects = []Object{
		{Kind: CtTimeout, Name: "t", Attributes: "y", Origin: at("masquerade t", 3)},
		{Kind: CtHelper, Name: "ftp", Origin: at("masquerade h", 4)},
	}
	from.Normalize()
	to.Normalize()
	c := Diff(from, to)
	var got []string
	for _, e := range c.Entries() {
		got = append(got, fmt.Sprintf("%c %s %s (%s) %v", e.Sign, e.Entry, e.Place, e.Detail(), e.Structural()))
	}
	want := []string{
		"+ masquerade young policy.yaml:2:3 () false",
		"~ masquerade t policy.yaml:3:3 () false",
		"+ masquerade h policy.yaml:4:3 () false",
		"+ zones policy.yaml:5:3 (1 rule) true",
		"+ forward new policy.yaml:6:3 (1 rule) false",
		"~ forward b policy.yaml:9:3 (1 rule in, 1 out) false",
		"~ port_forward web policy.yaml:20:3 (1 element in, 1 out) false",
		"+ port_forward ssh policy.yaml:22:3 (1 element) false",
		"- forward gone  (1 rule out) false",
		"- masquerade old  () false",
		"~ set m  (1 element out) false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s := c.Summary(); s != "4 to add, 4 to change, 2 to remove" {
		t.Errorf("summary %q", s)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	empty, zones, entry := &Snapshot{}, &Snapshot{}, &Snapshot{}
	zones.Chains = []Chain{chain("f", "", "zones:x", "zone lan:y", "invalid:z")}
	entry.Chains = []Chain{chain("f", "", "forward a:x")}
	for _, c := range []struct {
		from, to *Snapshot
		want     string
	}{
		{empty, empty, "no difference"},
		{empty, zones, "only what the entries stand on"},
		{zones, entry, "1 to add, 0 to change, 0 to remove"},
		{entry, zones, "0 to add, 0 to change, 1 to remove"},
	} {
		if got := Diff(c.from, c.to).Summary(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestSort keeps what an element counted and whose it is beside it, and keeps
// equal elements in their order.
func TestSort(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var e Elements
		e.KeyLen = 1
		e.Grow(100, 12)
		type one struct {
			record  string
			origin  uint32
			packets uint64
		}
		var want []one
		for i := range r.IntN(100) {
			x := one{strings.Repeat("x", r.IntN(3)*5) + string(rune('a'+r.IntN(4))), uint32(i), 0}
			e.Append(x.origin, []byte(x.record[:1]), []byte(x.record[1:]))
			if r.IntN(2) == 0 {
				x.packets = r.Uint64()
				e.Count(Count{Packets: x.packets})
			}
			want = append(want, x)
		}
		slices.SortStableFunc(want, func(a, b one) int { return strings.Compare(a.record, b.record) })
		e.Sort()
		if e.Len() != len(want) {
			t.Fatalf("%d elements of %d", e.Len(), len(want))
		}
		for i, w := range want {
			if got := (one{string(e.At(i)), e.OriginAt(i), e.CountAt(i).Packets}); got != w {
				t.Fatalf("element %d is %v, want %v", i, got, w)
			}
			if !bytes.HasPrefix(e.At(i), e.KeyAt(i)) || len(e.KeyAt(i)) != 1 {
				t.Fatalf("key %q of %q", e.KeyAt(i), e.At(i))
			}
		}
	}
}

// TestDigest holds digests against differences, on snapshots that differ in
// little or nothing.
func TestDigest(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	words := []string{"", "a", "b", "aa", "ab", "set", "chain"}
	word := func() string { return words[r.IntN(len(words))] }
	random := func() *Snapshot {
		s := &Snapshot{Generation: r.Uint32()}
		for i := range r.IntN(3) {
			c := chain(fmt.Sprint("c", i), word())
			for range r.IntN(3) {
				c.Rules = append(c.Rules, Rule{Body: []byte(word()), Origin: at(word(), r.IntN(9))})
			}
			s.Chains = append(s.Chains, c)
		}
		for i := range r.IntN(2) {
			var e []string
			for range r.IntN(3) {
				x := string(rune('a'+r.IntN(2))) + "a" + word()
				if r.IntN(2) == 0 {
					x = word() + ":" + x
				}
				e = append(e, x)
			}
			out := set(s, fmt.Sprint("s", i), word(), e...)
			if out.Elements.Len() > 0 {
				out.Elements.Count(Count{Packets: r.Uint64()})
			}
		}
		for i := range r.IntN(2) {
			s.Counters = append(s.Counters, Counter{Name: fmt.Sprint("n", i), Packets: r.Uint64()})
		}
		s.Normalize()
		return s
	}
	byDigest := map[string]*Snapshot{}
	var equal int
	for range 5000 {
		s := random()
		d := s.Digest()
		if other := byDigest[d]; other != nil {
			equal++
			if c := Diff(s, other); !c.Empty() {
				t.Fatalf("equal digests, but %s", told(c))
			}
		}
		byDigest[d] = s
	}
	if equal < 10 {
		t.Errorf("only %d pairs are equal", equal)
	}
	all := make([]*Snapshot, 0, len(byDigest))
	for _, s := range byDigest {
		all = append(all, s)
	}
	for range 50_000 {
		a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
		if a != b && Diff(a, b).Empty() {
			t.Fatalf("different digests, but no difference: %+v, %+v", a, b)
		}
	}
}

func BenchmarkSort(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	var e Elements
	e.KeyLen = 8
	for i := range 100_000 {
		e.Append(uint32(i), []byte{10, 0, byte(r.Uint32()), byte(r.Uint32()), byte(i), byte(i >> 8), 0, 0}, make([]byte, 8))
	}
	for b.Loop() {
		x := e
		x.Sort()
	}
}
