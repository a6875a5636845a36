package policy

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// decoder turns the nodes of one file into the loader's policy.
type decoder struct {
	*loader
	file   string // as it appears in places
	dir    string // what file references are relative to
	source int    // index in Policy.Sources
	lines  lines

	anchors bool // the file may have anchors, so a node may be met again

	empty string // what is said of a file without anything in it; "": emptyFile

	// The key whose value is being decoded, and what it takes, for messages.
	key, takes string
}

// at is the place of a node.
func (d *decoder) at(n *node) Place {
	return Place{File: d.file, Line: n.Line, Column: d.lines.column(n.Line, n.Column)}
}

// failAt notes a mistake at a node.
func (d *decoder) failAt(n *node, message string, notes ...Note) {
	d.fail(d.at(n), message, notes...)
}

// wrongType notes that a node is not what its key takes.
func (d *decoder) wrongType(n *node) {
	takes := d.takes
	if d.key != "" {
		takes = fmt.Sprintf("`%s` takes %s", d.key, d.takes)
	}
	message := fmt.Sprintf("%s, found %s", takes, d.found(n))
	if isNull(n) {
		message += "; write a value, or take the key out"
	}
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && isNull(n.Content[1]) {
		// [2001:db8::, ...]: within brackets a colon before a comma ends a key.
		message += "; put an address that ends in a colon in quotes"
	}
	d.failAt(n, message)
}

// found says in a few words what a node is.
func (d *decoder) found(n *node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return quote(n.Value)
}

func isNull(n *node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// isPlain is true for a scalar without quotes.
func isPlain(n *node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&^yaml.FlowStyle == 0
}

// quote puts a value in quotes for a message; one too long to read is cut.
func quote(s string) string {
	const longest = 60
	if len(s) > longest {
		cut := longest
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		return strconv.Quote(s[:cut] + "...")
	}
	return strconv.Quote(s)
}

// deref follows an alias to what it stands for.
func deref(n *node) *node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// plainTag refuses what a tag could turn into another type: a policy has the
// types that its keys have.
func (d *decoder) plainTag(n *node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	d.failAt(n, fmt.Sprintf("the tag %s has no meaning in a policy; take it out", n.Tag))
	return false
}

// text gives the characters of a scalar as they were written, whatever type
// YAML would make of them: 80, 8000-8010 and 2001:db8::1 are all text here.
func (d *decoder) text(n *node) (string, bool) {
	n = deref(n)
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.wrongType(n)
		return "", false
	}
	return n.Value, d.plainTag(n)
}

// boolean reads true or false.
func (d *decoder) boolean(n *node) (value, ok bool) {
	n = deref(n)
	if isPlain(n) {
		switch n.Value {
		case "true", "True", "TRUE":
			return true, true
		case "false", "False", "FALSE":
			return false, true
		}
	}
	d.wrongType(n)
	return false, false
}

// each calls one for every item of a list; a value that stands alone is a list
// of one.
func (d *decoder) each(n *node, one func(n *node)) {
	n = deref(n)
	if n.Kind != yaml.SequenceNode {
		one(n)
		return
	}
	if !d.plainTag(n) {
		return
	}
	if len(n.Content) == 0 {
		d.failAt(n, fmt.Sprintf("the list of `%s` is empty; put something in it, or take the key out", d.key))
	}
	for _, item := range n.Content {
		one(deref(item))
	}
}

// pairs calls each for every key of a mapping, and refuses duplicate keys,
// merge keys and keys that are not scalars. It gives false where n is no
// mapping.
func (d *decoder) pairs(n *node, each func(key string, k, v *node)) bool {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		d.wrongType(n)
		return false
	}
	if !d.plainTag(n) {
		return false
	}
	duplicate := duplicates(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := deref(n.Content[i])
		switch {
		case k.Kind != yaml.ScalarNode:
			d.failAt(k, fmt.Sprintf("a key is a word, found %s", d.found(k)))
			continue
		case k.Value == "<<" && isPlain(k):
			d.failAt(k, "merge keys (<<) are not part of YAML 1.2; write the keys out")
			continue
		case !d.plainTag(k):
			continue
		}
		if first := duplicate(i, k.Value); first != nil {
			d.failAt(k, fmt.Sprintf("the key %s is there twice; join the two or take one out", quote(k.Value)),
				Note{d.at(first), "first written here"})
			continue
		}
		each(k.Value, k, n.Content[i+1])
	}
	return true
}

// duplicates gives a function that finds the earlier key of the same text, if
// there is one, for the key at index i of the mapping's content. Most mappings
// are so small that looking is faster than remembering.
func duplicates(n *node) func(i int, key string) *node {
	const small = 40
	if len(n.Content) <= small {
		return func(i int, key string) *node {
			for j := 0; j < i; j += 2 {
				if k := deref(n.Content[j]); k.Kind == yaml.ScalarNode && k.Value == key {
					return k
				}
			}
			return nil
		}
	}
	seen := make(map[string]*node, len(n.Content)/2)
	return func(i int, key string) *node {
		if first := seen[key]; first != nil {
			return first
		}
		seen[key] = deref(n.Content[i])
		return nil
	}
}
