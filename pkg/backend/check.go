package backend

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// MaxEntry is the longest name of an entry in bytes: every object carries it as
// its comment, and nft(8) takes no longer ones.
const MaxEntry = 127

// Check finds what the kernel would take in silence and keep otherwise than it
// was meant: it keeps the first bytes of a comment that is too long, and takes
// a second chain of a name for a change of the first. Every Want calls it.
func Check(rs *ruleset.Ruleset) error {
	c := checker{}
	for _, s := range rs.Sets {
		if err := c.object("set", s.Name, s.Origin); err != nil {
			return err
		}
	}
	for _, x := range rs.Counters {
		if err := c.object("counter", x.Name, x.Origin); err != nil {
			return err
		}
	}
	for _, x := range rs.Chains {
		if err := c.object("chain", x.Name, x.Origin); err != nil {
			return err
		}
		for _, r := range x.Rules {
			if err := fits("a rule of chain "+x.Name, r.Origin); err != nil {
				return err
			}
		}
	}
	for _, o := range rs.Origins {
		if err := fits("an element", o); err != nil {
			return err
		}
	}
	return nil
}

// checker knows the names that were seen, by kind.
type checker map[[2]string]bool

func (c checker) object(kind, name string, o ruleset.Origin) error {
	key := [2]string{kind, name}
	if c[key] {
		return &Refused{Object: kind + " " + name, Origin: o, Err: errTwice}
	}
	c[key] = true
	return fits(kind+" "+name, o)
}

// errTwice says that an object is there already.
var errTwice = errors.New("there are two of this name")

// fits says whether an entry's name can be an object's comment.
func fits(object string, o ruleset.Origin) error {
	if len(o.Entry) <= MaxEntry {
		return nil
	}
	return &Refused{Object: object, Origin: o, Err: fmt.Errorf("the entry's name is longer than %d bytes", MaxEntry)}
}
