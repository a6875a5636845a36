package simulate

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Seen is something that the kernel took a packet through: a rule that matched,
// or the end of a base chain.
type Seen struct {
	Table, Chain string // as "inet ipmasq"
	Hook         string // "" where it is not known
	Ours         bool
	// Rule is the rule of ours that it is; nil where it is not known which, or none.
	Rule    *ruleset.Rule
	Comment string // of the rule
	Handle  uint64
	Policy  bool // the end of a base chain, and no rule
	Verdict string
	To      string // the chain that a jump leads to
	// Ends are those of the packet as it came to the chain, where they were told.
	Ends *Ends
}

// The verdicts of the kernel that matter here.
const (
	seenDrop  = "drop"
	seenQueue = "queue"
)

// name says where it was, for people.
func (s *Seen) name() string {
	text := fmt.Sprintf("table %s chain %s", s.Table, s.Chain)
	if !s.Ours {
		text += ", which is not ipmasq's"
	}
	return text
}

// Difference is where a packet's walk through the kernel was not what was
// foreseen.
type Difference struct {
	// At is the number of the Seen that differs; that of the last and one more
	// where the kernel ended it too early.
	At   int
	Text string
}

// Compare holds the kernel's walk of a packet against what was foreseen. Nil: it
// is the same.
func (o *Outcome) Compare(walk []Seen) *Difference {
	c := &comparison{outcome: o}
	for i := range o.Steps {
		if s := &o.Steps[i]; s.By == ByRule && !s.Limited {
			c.foreseen = append(c.foreseen, s)
		}
	}
	for i := range walk {
		if text := c.see(&walk[i]); text != "" {
			return &Difference{i, text}
		}
	}
	if text := c.rest(walk); text != "" {
		return &Difference{len(walk), text}
	}
	return nil
}

// comparison goes along with the kernel's walk.
type comparison struct {
	outcome  *Outcome
	foreseen []*Step
	foreign  string // the last table of another that may have translated
	// ended says that the packet was dropped, as foreseen.
	ended bool
}

// see says what is unforeseen about a step of the kernel, or "".
func (c *comparison) see(s *Seen) string {
	if !s.Ours {
		c.foreign = s.Table
		switch s.Verdict {
		case seenDrop:
			return "the kernel dropped it in " + s.name()
		case seenQueue:
			return "the kernel gave it to a program, in " + s.name()
		}
		return ""
	}
	if s.Rule == nil {
		if s.Policy || s.Verdict == "" {
			return ""
		}
		return "a rule that is not this policy's: " + s.name()
	}
	for len(c.foreseen) > 0 && c.foreseen[0].Rule != s.Rule && hasLimit(c.foreseen[0].Rule) {
		c.foreseen = c.foreseen[1:] // there was no room for it, or for its log
	}
	if len(c.foreseen) == 0 || c.foreseen[0].Rule != s.Rule {
		return c.unforeseen(s)
	}
	step := c.foreseen[0]
	c.foreseen = c.foreseen[1:]
	if s.Ends != nil && c.fixedTarget() && s.Ends.Destination != step.Destination {
		return fmt.Sprintf("its destination was %s by then, not %s%s", s.Ends.Destination, step.Destination, c.whose())
	}
	c.ended = s.Verdict == seenDrop
	return ""
}

func (c *comparison) unforeseen(s *Seen) string {
	if hasLimit(s.Rule) {
		return fmt.Sprintf("the limit of %s was reached, in chain %s", byWhom(s), s.Chain)
	}
	text := fmt.Sprintf("the kernel came to %s in chain %s", byWhom(s), s.Chain)
	if len(c.foreseen) > 0 {
		text += fmt.Sprintf(", and %s in chain %s was foreseen", c.foreseen[0].Origin.Entry, c.foreseen[0].Chain.Name)
	} else {
		text += ", where nothing more was foreseen"
	}
	if s.Ends != nil && c.outcome.Arrived.Destination != s.Ends.Destination && c.foreign != "" {
		text += fmt.Sprintf("; its destination was %s by then%s", s.Ends.Destination, c.whose())
	}
	return text
}

func byWhom(s *Seen) string {
	if s.Comment != "" {
		return s.Comment
	}
	return "a rule"
}

// whose names who may have translated the packet before.
func (c *comparison) whose() string {
	if c.foreign == "" {
		return ""
	}
	return ": table " + c.foreign + " had its turn before, and is not ipmasq's"
}

// fixedTarget says whether it is known where the packet is sent to.
func (c *comparison) fixedTarget() bool {
	for _, x := range c.outcome.Choices {
		if x.What == Target {
			return false
		}
	}
	return true
}

// rest says what is missing at the end.
func (c *comparison) rest(walk []Seen) string {
	for len(c.foreseen) > 0 && hasLimit(c.foreseen[0].Rule) {
		c.foreseen = c.foreseen[1:]
	}
	if len(c.foreseen) == 0 || c.ended {
		return ""
	}
	next := c.foreseen[0]
	at := "the first chain"
	if n := len(walk); n > 0 {
		at = walk[n-1].name()
	}
	text := fmt.Sprintf("nothing more was seen of it behind %s, and chain %s was foreseen", at, next.Chain.Name)
	if n := len(walk); n > 0 && walk[n-1].Hook != next.Hook.String() {
		text += ": routing, a reverse path filter or a rule that is not of nf_tables (iptables-legacy) has dropped it, or it went another way"
	}
	return text
}

// hasLimit says whether it depends on more than the packet whether a rule
// matches.
func hasLimit(r *ruleset.Rule) bool {
	for i := range r.Do {
		switch r.Do[i].Kind {
		case ruleset.RateUnder, ruleset.RateOver, ruleset.CountOver:
			return true
		}
	}
	return false
}
