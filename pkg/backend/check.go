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
// was meant: it keeps the first bytes of a comment that is too long, takes a
// second chain of a name for a change of the first, a set without a size for
// one of 65535, and a burst of nothing for one of five. It keeps a rate for each
// key of a set that has no timeout for ever. Every Want calls it.
func Check(rs *ruleset.Ruleset) error {
	c := checker{}
	timeout := map[string]uint32{}
	for _, s := range rs.Sets {
		timeout[s.Name] = s.Timeout
		if err := c.object("set", s.Name, s.Origin); err != nil {
			return err
		}
		if s.Dynamic && s.Size == 0 {
			return &Refused{Object: "set " + s.Name, Origin: s.Origin, Err: errors.New("rules fill it, and it has no size")}
		}
	}
	for _, x := range rs.Counters {
		if err := c.object("counter", x.Name, x.Origin); err != nil {
			return err
		}
	}
	for _, x := range rs.Helpers {
		if err := c.object("ct helper", x.Name, x.Origin); err != nil {
			return err
		}
	}
	for _, x := range rs.Timeouts {
		if err := c.object("ct timeout", x.Name, x.Origin); err != nil {
			return err
		}
	}
	for _, x := range rs.Flowtables {
		if err := c.object("flowtable", x.Name, x.Origin); err != nil {
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
			for _, do := range r.Do {
				if err := limits(do, timeout); err != nil {
					return &Refused{Object: "a rule of chain " + x.Name, Origin: r.Origin, Err: err}
				}
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

// limits says whether a statement's rate can be one, and whether the set that
// keeps it, or open flows, ends keys as it must.
func limits(do ruleset.Statement, timeout map[string]uint32) error {
	if do.Kind == ruleset.CountOver && timeout[do.Set] != 0 {
		return fmt.Errorf("the set %s would forget open flows", do.Set)
	}
	if do.Kind != ruleset.RateUnder && do.Kind != ruleset.RateOver {
		return nil
	}
	if do.Set != "" && timeout[do.Set] == 0 {
		return fmt.Errorf("the set %s would never forget a key", do.Set)
	}
	if do.Rate.Packets == 0 || do.Rate.Seconds == 0 || do.Rate.Burst == 0 {
		return fmt.Errorf("a rate of %d in %d seconds with a burst of %d", do.Rate.Packets, do.Rate.Seconds, do.Rate.Burst)
	}
	return nil
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
