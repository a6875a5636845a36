package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// field is one key of a mapping. The tables of fields are the whole grammar:
// what a key is called, what it takes, and what reads it.
type field[T any] struct {
	key   string
	takes string // ends "`key` takes ..."
	// about, value and preset are what the schema says of the key: what it is
	// for, what its value may look like, and what it is where it is left out.
	about  string
	value  func() *schema
	preset any
	must   bool   // the mapping is incomplete without the key
	needs  string // a key that has to stand beside it
	// decode is nil where the key is not taken; refuse then says why.
	decode func(d *decoder, n *node, to *T)
	refuse string
}

// lift makes a table for T one for U, which holds a T.
func lift[T, U any](table []field[T], of func(*U) *T) []field[U] {
	lifted := make([]field[U], len(table))
	for i, f := range table {
		lifted[i] = field[U]{key: f.key, takes: f.takes, about: f.about, value: f.value, preset: f.preset, must: f.must, needs: f.needs, refuse: f.refuse}
		if f.decode != nil {
			lifted[i].decode = func(d *decoder, n *node, to *U) { f.decode(d, n, of(to)) }
		}
	}
	return lifted
}

// instead is a key that a reader may expect here, with what to write for it.
func instead[T any](key, advice string) field[T] {
	return field[T]{key: key, refuse: fmt.Sprintf("%q is not a key here; %s", key, advice)}
}

// written is which keys a mapping has, known or not, wrong or not.
type written struct {
	d *decoder
	n *node
	// meant are the keys that misspelt ones are near to: they are not
	// missing, and what they would have said is not known.
	meant []string
}

// value gives the value of a key, or nil.
func (w written) value(key string) *node {
	for i := 0; i+1 < len(w.n.Content); i += 2 {
		if k := deref(w.n.Content[i]); k.Kind == yaml.ScalarNode && k.Value == key {
			return w.n.Content[i+1]
		}
	}
	return nil
}

func (w written) has(key string) bool {
	return w.value(key) != nil || slices.Contains(w.meant, key)
}

// place is where the value of a key stands, else where the mapping does.
func (w written) place(key string) Place {
	if v := w.value(key); v != nil {
		return w.d.at(deref(v))
	}
	return w.d.at(w.n)
}

// require notes every one of the keys that is missing.
func (w written) require(what string, keys ...string) {
	if w.has("<<") {
		return // refused, and what it would have brought is not missing
	}
	for _, key := range keys {
		if !w.has(key) {
			w.d.failAt(w.n, fmt.Sprintf("%s needs `%s`", what, key))
		}
	}
}

// requireAll notes every key that must be there and is missing.
func requireAll[T any](w written, what string, table []field[T]) {
	for i := range table {
		if table[i].must {
			w.require(what, table[i].key)
		}
	}
}

// fields decodes a mapping by its table.
func fields[T any](d *decoder, n *node, table []field[T], to *T) (written, bool) {
	n = deref(n)
	key, takes := d.key, d.takes
	w := written{d: d, n: n}
	ok := d.pairs(n, func(name string, k, v *node) {
		for i := range table {
			if f := &table[i]; f.key == name {
				if f.decode == nil {
					d.failAt(k, f.refuse)
					return
				}
				d.key, d.takes = f.key, f.takes
				f.decode(d, v, to)
				d.key, d.takes = key, takes
				return
			}
		}
		message, near := unknownKey(name, table)
		d.failAt(k, message)
		if near != "" {
			w.meant = append(w.meant, near)
		}
	})
	return w, ok
}

// unknownKey words the mistake, and gives the key that was most likely meant.
func unknownKey[T any](name string, table []field[T]) (message, near string) {
	var known []string
	for _, f := range table {
		if f.decode != nil {
			known = append(known, f.key)
		}
	}
	message = "unknown key " + quote(name)
	if near = nearest(name, known); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near), near
	}
	return fmt.Sprintf("%s; the keys here are %s", message, strings.Join(known, ", ")), ""
}

// entries decodes a list of mappings and appends them in order. The place of an
// entry is that of its alias, if it is one. Each node is
// let go as soon as it is decoded: the tree of a large policy is many times
// the size of what it says. Where there are anchors an alias may come back to it.
func entries[T any](d *decoder, n *node, list *[]T, one func(n *node, at Place) (T, bool)) {
	n = deref(n)
	if n.Kind == yaml.MappingNode {
		if v, ok := one(n, d.at(n)); ok {
			*list = append(*list, v)
		}
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n)
		return
	}
	if !d.plainTag(n) {
		return
	}
	if *list == nil {
		*list = make([]T, 0, len(n.Content))
	}
	for i, item := range n.Content {
		if v, ok := one(deref(item), d.at(item)); ok {
			*list = append(*list, v)
		}
		if !d.anchors {
			n.Content[i] = nil
		}
	}
}
