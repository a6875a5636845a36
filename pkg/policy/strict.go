package policy

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Node is a value of a file that a [Reader] reads.
type Node = yaml.Node

// Reader reads a file of another kind as strictly as a policy: unknown keys are
// errors, every value has its place, and all mistakes come at once.
type Reader struct{ d *decoder }

// NewReader takes the text of a file. Empty is what is said of a file without
// anything in it.
func NewReader(name string, text []byte, empty string) *Reader {
	l := newLoader(readReferred)
	d := &decoder{loader: l, file: name, empty: empty}
	d.lines.text = withoutBOM(text)
	d.source = l.source(name, d.lines.text)
	if name != StdinName {
		d.dir = filepath.Dir(name)
	}
	return &Reader{d}
}

// Root gives the file's one value, or nil after it has noted why there is none.
func (r *Reader) Root() *Node { return r.d.parsed() }

// Sources are what [Print] shows the mistakes in.
func (r *Reader) Sources() []Source { return r.d.policy.Sources }

// Err gives all mistakes that were noted, as [Errors], or nil.
func (r *Reader) Err() error {
	if len(r.d.errs) == 0 {
		return nil
	}
	r.d.sortErrors()
	return r.d.errs
}

// Key is one key of a mapping. Takes ends "`name` takes ...".
type Key[T any] struct {
	Name, Takes string
	Read        func(r *Reader, n *Node, to *T)
}

// Mapping is which keys a mapping has, known or not, wrong or not.
type Mapping struct{ w written }

// Has says whether a key is written, or one that was probably meant for it.
func (m Mapping) Has(key string) bool { return m.w.has(key) }

// Require notes every one of the keys that is missing of what.
func (m Mapping) Require(what string, keys ...string) { m.w.require(what, keys...) }

// ReadMapping reads a mapping by its keys. It gives false where n is none.
func ReadMapping[T any](r *Reader, n *Node, keys []Key[T], to *T) (Mapping, bool) {
	table := make([]field[T], len(keys))
	for i, k := range keys {
		table[i] = field[T]{key: k.Name, takes: k.Takes, decode: func(_ *decoder, n *node, to *T) { k.Read(r, n, to) }}
	}
	w, ok := fields(r.d, n, table, to)
	return Mapping{w}, ok
}

// Takes says what is read next, for the message of a value of another type.
func (r *Reader) Takes(what string) { r.d.key, r.d.takes = "", what }

// At is the place of a value.
func (r *Reader) At(n *Node) Place { return r.d.at(deref(n)) }

// Fail notes a mistake at a value.
func (r *Reader) Fail(n *Node, message string, notes ...Note) {
	r.d.failAt(deref(n), message, notes...)
}

// FailAt notes a mistake at a place.
func (r *Reader) FailAt(at Place, message string, notes ...Note) { r.d.fail(at, message, notes...) }

// Pairs calls each for every key of a mapping, none of them twice.
func (r *Reader) Pairs(n *Node, each func(key string, k, v *Node)) bool { return r.d.pairs(n, each) }

// Each calls one for every item of a list; a value that stands alone is a list
// of one.
func (r *Reader) Each(n *Node, one func(n *Node)) { r.d.each(n, one) }

// List calls one for every item of a list, which may be empty.
func (r *Reader) List(n *Node, one func(n *Node)) {
	n = deref(n)
	if n.Kind != yaml.SequenceNode {
		r.d.wrongType(n)
		return
	}
	if r.d.plainTag(n) {
		for _, item := range n.Content {
			one(deref(item))
		}
	}
}

// IsList says whether a value is a list, and IsMapping whether it is a mapping.
func (r *Reader) IsList(n *Node) bool    { return deref(n).Kind == yaml.SequenceNode }
func (r *Reader) IsMapping(n *Node) bool { return deref(n).Kind == yaml.MappingNode }

// Text gives a value as it was written.
func (r *Reader) Text(n *Node) (string, bool) { return r.d.text(n) }

// Boolean reads true or false.
func (r *Reader) Boolean(n *Node) (value, ok bool) { return r.d.boolean(n) }

// Number reads a whole number from low to high, which Takes names.
func (r *Reader) Number(n *Node, low, high uint32) (uint32, bool) { return r.d.number(n, low, high) }

// WrongType notes that a value is not what its key takes.
func (r *Reader) WrongType(n *Node) { r.d.wrongType(deref(n)) }

// Addresses reads addresses, prefixes and ranges; no sets, no words.
func (r *Reader) Addresses(n *Node) []Address {
	var list []Address
	r.Each(n, func(n *Node) {
		if a, ok := r.address(n); ok {
			list = append(list, a)
		}
	})
	return list
}

func (r *Reader) address(n *Node) (Address, bool) {
	if n.Kind == yaml.ScalarNode && strings.HasPrefix(n.Value, "@") {
		r.Fail(n, fmt.Sprintf("there are no sets here; write the addresses of %s out", quote(n.Value)))
		return Address{}, false
	}
	return r.d.address(n, 0)
}

// Address reads a single address.
func (r *Reader) Address(n *Node) (Address, bool) {
	a, ok := r.address(deref(n))
	if ok && a.Low != a.High {
		r.Fail(n, fmt.Sprintf("`%s` takes one address, found %s", r.d.key, a))
		return a, false
	}
	return a, ok
}

// Ports reads ports and ranges of ports.
func (r *Reader) Ports(n *Node) []Ports { return r.d.ports(n) }

// Protocol reads the name or number of one protocol.
func (r *Reader) Protocol(n *Node) (Protocol, bool) {
	if r.IsList(n) {
		r.WrongType(n)
		return Protocol{}, false
	}
	list := r.d.protocols(n)
	if len(list) != 1 {
		return Protocol{}, false
	}
	return list[0], true
}

// ICMPType reads the name of one ICMP type.
func (r *Reader) ICMPType(n *Node) (ICMPType, bool) {
	if r.IsList(n) {
		r.WrongType(n)
		return ICMPType{}, false
	}
	list := r.d.icmpTypes(n)
	if len(list) != 1 {
		return ICMPType{}, false
	}
	return list[0], true
}

// Mark reads a packet mark.
func (r *Reader) Mark(n *Node) (Mark, bool) { return r.d.packetMark(n) }

// InterfaceName reads the name of one interface.
func (r *Reader) InterfaceName(n *Node) (string, bool) {
	text, ok := r.d.text(n)
	if !ok {
		return "", false
	}
	if problem := interfaceProblem(text, Interface{Name: text}); problem != "" {
		r.Fail(n, problem)
		return text, false
	}
	return text, true
}

// Word reads one of several words.
func (r *Reader) Word(n *Node, what string, words ...string) (string, bool) {
	text, ok := r.d.text(n)
	if !ok {
		return "", false
	}
	for _, w := range words {
		if w == text {
			return text, true
		}
	}
	r.Fail(n, r.Unknown(what, text, words))
	return text, false
}

// Unknown words a mistake about a word that is not known, with the one that was
// probably meant.
func (r *Reader) Unknown(what, word string, known []string) string {
	message := fmt.Sprintf("there is no %s %s", what, quote(word))
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near)
	}
	return message + oneOf(known)
}

func oneOf(known []string) string {
	const most = 12
	if len(known) == 0 || len(known) > most {
		return ""
	}
	text := "; there is "
	for i, k := range known {
		switch {
		case i > 0 && i == len(known)-1:
			text += " and "
		case i > 0:
			text += ", "
		}
		text += k
	}
	return text
}

// Prefix is the prefix that a range of addresses is, if it is one.
func (a Address) Prefix() (p netip.Prefix, ok bool) { return asPrefix(a.Low, a.High) }
