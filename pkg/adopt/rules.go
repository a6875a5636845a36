package adopt

import (
	"fmt"
	"strings"
)

// ruleset is what files hold, in one form.
type ruleset struct {
	chains  map[string]*chain
	order   []*chain // as they were read
	sets    map[string]spans
	remarks []remark // what readers have to list
}

// remark is an error that was found while reading.
type remark struct {
	at   origin
	text string
}

// chain is a chain of rules. Its key tells it from others: family, table, name.
type chain struct {
	key, name, table string
	families         set256 // what it can meet
	base             *base  // nil: others jump to it
	rules            []*rule
	at               origin
	foreign          string // the program that it belongs to
}

// base is where a chain is attached.
type base struct {
	nat      bool
	hook     string // prerouting, input, forward, output, postrouting
	priority int
	drop     bool // the policy
}

// rule is one condition and one action. A line that says more is several.
type rule struct {
	box
	in, out []interfaces // until they are resolved to sides of the box
	do      action
	at      origin
	also    []origin // other lines that say the same
	log     *logging // of the line before it
	logRate *rate
	mark    *[2]uint32
	note    string    // what the policy says of it, where it is of no line
	zones   [2]string // from and to, where these are no interfaces of rules
}

// origin is where something stands in the input.
type origin struct {
	file    string
	line    int
	text    string
	comment string
}

func (o origin) place() string { return fmt.Sprintf("%s:%d", o.file, o.line) }

// interfaces is one test of an interface.
type interfaces struct {
	names []pattern
	not   bool
}

// pattern is an interface, or all whose names begin so.
type pattern struct {
	name     string
	wildcard bool
}

func (p pattern) covers(q pattern) bool {
	if p.wildcard {
		return strings.HasPrefix(q.name, p.name)
	}
	return p == q
}

func (p pattern) String() string {
	if p.wildcard {
		return p.name + "*"
	}
	return p.name
}

// kind is what a rule does.
type kind uint8

const (
	doNothing kind = iota // a counter, say
	doAccept
	doDrop
	doReject
	doReturn
	doJump
	doGoto
	doDNAT
	doSNAT
	doMasquerade
	doRedirect
	doNetmap
	doMSS
	doMark
	doLog
	doOdd // import does not know it; text says what it is
)

// action is what happens to a packet.
type action struct {
	kind    kind
	chain   string // key, of jump and goto
	to      []target
	ports   span16 // of snat, masquerade and redirect; 0: left alone
	random  string // "", random, fully-random
	persist bool
	turn    bool // several targets in turn
	sticky  bool // or by the source
	mark    [2]uint32
	mss     int // 0: the path's
	with    string
	log     logging
	text    string
	passes  bool // of doOdd: what follows is asked too
}

// logging is what a rule logs.
type logging struct {
	prefix, level string
	group         int // -1: the kernel log
}

// target is an address, or a range of them, and perhaps ports.
type target struct {
	span
	ports span16
	base  uint16 // of a range of ports that is shifted
}

// terminal says whether nothing follows.
func (a action) terminal() bool {
	switch a.kind {
	case doNothing, doJump, doLog, doMark, doMSS:
		return false
	case doOdd:
		return !a.passes
	}
	return true
}

func (r *ruleset) chain(family, table, name string) *chain {
	key := family + " " + table + " " + name
	c := r.chains[key]
	if c == nil {
		c = &chain{key: key, name: name, table: table}
		switch family {
		case "ip":
			c.families = setOf(4)
		case "ip6":
			c.families = setOf(6)
		default:
			c.families = setOf(4, 6)
		}
		r.chains[key] = c
		r.order = append(r.order, c)
	}
	return c
}
