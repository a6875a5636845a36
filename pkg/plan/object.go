package plan

import (
	"cmp"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Object is what rules refer to by name, besides chains, sets and counters.
// Objects of two kinds may share a name.
type Object struct {
	Kind       ObjectKind
	Name       string
	Attributes string // everything but kind and name, as the backend encodes it
	Origin     ruleset.Origin
}

// ObjectKind is a kind of object, in the words of nft(8).
type ObjectKind string

// The kinds of object.
const (
	CtHelper  ObjectKind = "ct helper"
	CtTimeout ObjectKind = "ct timeout"
	Flowtable ObjectKind = "flowtable"
)

// String names the object as an error does: "ct helper ftp".
func (o *Object) String() string { return string(o.Kind) + " " + o.Name }

// ObjectChange is an object that differs. One whose attributes do is replaced:
// the rules that use it must let go of the old one, and take the new.
type ObjectChange struct {
	Kind     Kind
	From, To int
}

func sortObjects(objects []Object) {
	slices.SortFunc(objects, func(a, b Object) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
}

func diffObjects(from, to []Object) []ObjectChange {
	var out []ObjectChange
	key := func(objects []Object) func(int) string {
		return func(i int) string { return string(objects[i].Kind) + "\x00" + objects[i].Name }
	}
	pair(len(from), len(to), key(from), key(to), func(i, j int) {
		kind := presence(i, j)
		if kind == Keep && from[i].Attributes != to[j].Attributes {
			kind = Replace
		}
		if kind != Keep {
			out = append(out, ObjectChange{kind, i, j})
		}
	})
	return out
}
