package policytest

import (
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// same is the word for what a packet had before.
const same = "same"

func verdicts() []string {
	return []string{string(simulate.Forwarded), string(simulate.Delivered), string(simulate.Dropped), string(simulate.Rejected),
		string(simulate.Synproxy), string(simulate.Unrouted)}
}

func readExpect(r *policy.Reader, n *policy.Node, t *Test) {
	e := &t.Expect
	e.Place, e.at = r.At(n), places{}
	if _, ok := policy.ReadMapping(r, n, expectKeys(), e); ok && len(e.at) == 0 && r.IsMapping(n) && len(n.Content) == 0 {
		r.Fail(n, "nothing is expected; write at least a `verdict`")
	}
	if e.Verdict == "" || e.Verdict == simulate.Forwarded || e.Verdict == simulate.Delivered {
		return
	}
	for _, key := range []string{"to", "interface", "source", "source_port", "destination", "port", "mark"} {
		if at, ok := e.at[key]; ok {
			r.FailAt(at, "what does not pass leaves nowhere, and is not translated; take `"+key+"` out")
		}
	}
}

func expectKeys() []policy.Key[Expect] {
	key := func(name, takes string, read func(r *policy.Reader, n *policy.Node, e *Expect)) policy.Key[Expect] {
		return policy.Key[Expect]{Name: name, Takes: takes, Read: func(r *policy.Reader, n *policy.Node, e *Expect) {
			e.at[name] = r.At(n)
			read(r, n, e)
		}}
	}
	addresses := func(name string, of func(*Expect) *Addresses) policy.Key[Expect] {
		return key(name, "an address, a range, a list of these, or same", func(r *policy.Reader, n *policy.Node, e *Expect) {
			if to := of(e); isWord(r, n, same) {
				to.Same = true
			} else {
				to.List = r.Addresses(n)
			}
		})
	}
	ports := func(name string, of func(*Expect) *Ports) policy.Key[Expect] {
		return key(name, "a port, a range, a list of these, or same", func(r *policy.Reader, n *policy.Node, e *Expect) {
			if to := of(e); isWord(r, n, same) {
				to.Same = true
			} else {
				to.List = r.Ports(n)
			}
		})
	}
	return []policy.Key[Expect]{
		key("verdict", strings.Join(verdicts(), ", "), func(r *policy.Reader, n *policy.Node, e *Expect) {
			word, ok := r.Word(n, "verdict", verdicts()...)
			if ok {
				e.Verdict = simulate.Verdict(word)
			}
		}),
		key("entry", "a section and a name as `masquerade lan-wan`, or a list of these", func(r *policy.Reader, n *policy.Node, e *Expect) {
			r.Each(n, func(n *policy.Node) {
				if text, ok := r.Text(n); ok {
					e.Entries = append(e.Entries, Entry{r.At(n), strings.Join(strings.Fields(text), " ")})
				}
			})
		}),
		key("to", "a zone, or gateway", func(r *policy.Reader, n *policy.Node, e *Expect) { e.To, _ = r.Text(n) }),
		key("interface", "the name of a link", func(r *policy.Reader, n *policy.Node, e *Expect) { e.Interface, _ = r.InterfaceName(n) }),
		addresses("source", func(e *Expect) *Addresses { return &e.Source }),
		ports("source_port", func(e *Expect) *Ports { return &e.SourcePort }),
		addresses("destination", func(e *Expect) *Addresses { return &e.Destination }),
		ports("port", func(e *Expect) *Ports { return &e.Port }),
		key("mark", "a mark as 0x1, or bits of it as 0x1/0xf", func(r *policy.Reader, n *policy.Node, e *Expect) {
			if m, ok := r.Mark(n); ok {
				e.Mark = &m
			}
		}),
	}
}

func isWord(r *policy.Reader, n *policy.Node, word string) bool {
	return !r.IsList(n) && !r.IsMapping(n) && n.Value == word
}

// has says whether an address is among those expected.
func (a Addresses) has(got, before netip.Addr) bool {
	if a.Same {
		return got == before
	}
	for _, x := range a.List {
		if x.Low.Is4() == got.Is4() && !got.Less(x.Low) && !x.High.Less(got) {
			return true
		}
	}
	return len(a.List) == 0
}

// String is what is expected, in the words of the file.
func (a Addresses) String() string {
	if a.Same {
		return same
	}
	return joined(a.List)
}

func (p Ports) has(got, before uint16) bool {
	if p.Same {
		return got == before
	}
	for _, x := range p.List {
		if x.First <= got && got <= x.Last {
			return true
		}
	}
	return len(p.List) == 0
}

// String is what is expected, in the words of the file.
func (p Ports) String() string {
	if p.Same {
		return same
	}
	return joined(p.List)
}

func joined[T interface{ String() string }](list []T) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = x.String()
	}
	return strings.Join(words, ", ")
}
