package compile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What uplinks get where the policy does not say it, by their number n from 1
// on: the mark n in the four highest bits, which leaves those that Kubernetes,
// Tailscale and mwan3 use; a table that nobody numbers by hand ("ipm"); and a
// rule that stands before those of VPNs and of the main table.
const (
	symmetricMask     = 0xf0000000
	symmetricShift    = 28
	symmetricMost     = symmetricMask >> symmetricShift
	symmetricTable    = 0x69706d00
	symmetricPriority = 900
)

// prioritySymmetric is before any translation, and behind connection tracking
// (NF_IP_PRI_MANGLE).
const prioritySymmetric = -150

// Uplink is an interface by which the answers to what came in by it leave. The
// rules give those answers the mark; a rule of policy routing has to send what
// has it to the table.
type Uplink struct {
	Zone       string
	Place      policy.Place // of the zone's `symmetric`
	Interface  string
	Families   [2]bool       // those of the zone, IPv4 first
	Gateway    [2]netip.Addr // as written, IPv4 first; not valid: to be found
	Mark, Mask uint32
	Table      uint32
	Chosen     bool // the table is not written in the policy
	ChosenMark bool // nor is the mark
	Priority   int
}

// resolveSymmetric numbers the uplinks in the order in which the policy
// declares them: one more at the end leaves the flows of the others alone.
func (c *compiler) resolveSymmetric() {
	for i := range c.policy.Zones {
		z := &c.policy.Zones[i]
		s := z.Symmetric
		if s == nil {
			continue
		}
		written := s.Gateway4.IsValid() || s.Gateway6.IsValid() || s.Mark.Mask != 0 || s.Table != 0
		wild := slices.IndexFunc(z.Interfaces, func(i policy.Interface) bool { return i.Wildcard })
		switch {
		case wild >= 0:
			c.fail(z.Interfaces[wild].Place, fmt.Sprintf("`symmetric` needs every interface by its name, since each has a next hop of its own; write the names instead of %q", z.Interfaces[wild].String()))
			continue
		case written && len(z.Interfaces) > 1:
			c.fail(s.Place, fmt.Sprintf("zone %s has several interfaces, which cannot share a gateway, mark or table; write `symmetric: true`, or make a zone of each", z.Name))
			continue
		}
		zone := c.byName[z.Name]
		for _, in := range z.Interfaces {
			n := len(c.uplinks) + 1
			u := Uplink{
				Zone: z.Name, Place: s.Place, Interface: in.Name, Gateway: [2]netip.Addr{s.Gateway4, s.Gateway6},
				Mark: s.Mark.Value, Mask: s.Mark.Mask, Table: s.Table, Priority: symmetricPriority + n,
			}
			for f := range u.Families {
				u.Families[f] = len(zone.networks[f]) > 0
			}
			if u.Table == 0 {
				u.Table, u.Chosen = symmetricTable+uint32(n), true
			}
			if u.Mask == 0 {
				u.Mark, u.Mask, u.ChosenMark = uint32(n)<<symmetricShift, symmetricMask, true
				if n > symmetricMost {
					c.fail(s.Place, fmt.Sprintf("there are marks for %d symmetric uplinks, and %s is one too many; give it a `mark`", symmetricMost, in.Name))
				}
			}
			c.checkUplink(&u)
			c.uplinks = append(c.uplinks, u)
		}
	}
}

// checkUplink finds what an uplink cannot share with another, and with the
// marks of rules.
func (c *compiler) checkUplink(u *Uplink) {
	fail := func(message string, other *Uplink) {
		c.fail(u.Place, message, policy.Note{Place: other.Place, Message: "zone " + other.Zone + " is symmetric here"})
	}
	for i := range c.uplinks {
		o := &c.uplinks[i]
		switch {
		case u.Mask == o.Mask && u.Mark == o.Mark:
			fail(fmt.Sprintf("zones %s and %s have the same mark; give them different ones", o.Zone, u.Zone), o)
		case u.Mask != o.Mask && u.Mask&o.Mask != 0:
			fail(fmt.Sprintf("the masks %#x and %#x of zones %s and %s overlap; use one mask, or masks without a common bit", o.Mask, u.Mask, o.Zone, u.Zone), o)
		}
		if u.Table == o.Table {
			fail(fmt.Sprintf("zones %s and %s have the same table; give them different ones", o.Zone, u.Zone), o)
		}
	}
	for i := range c.policy.Forward.Rules {
		if m := c.policy.Forward.Rules[i].Mark; m != nil && u.ChosenMark && m.Mask&u.Mask != 0 {
			c.fail(m.Place, fmt.Sprintf("this mark has bits of %#x, which the answers of zone %s are told by; use other bits, or give the zone a `mark` of its own", u.Mask, u.Zone),
				policy.Note{Place: u.Place, Message: "zone " + u.Zone + " is symmetric here"})
		}
	}
}

// symmetric builds the chains that remember by which uplink a flow came in, and
// mark its answers for it: those that arrive from elsewhere before they are
// routed, and the gateway's own, which are routed again.
func (c *compiler) symmetric() {
	if len(c.uplinks) == 0 {
		return
	}
	c.answers()
	base := c.base("mangle_prerouting", ruleset.TypeFilter, ruleset.Prerouting, prioritySymmetric)
	c.toAnswers(base)
	c.rule(base, own("ipmasq"), pass(), anyBit(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
	from := map[*zone]string{}
	for _, z := range c.zones {
		if z.Symmetric == nil {
			continue
		}
		from[z] = "mangle_prerouting_from_" + z.Name
		ch := c.chain(from[z], origin("zone", z.Name, z.Place))
		for i := range c.uplinks {
			if u := &c.uplinks[i]; u.Zone == z.Name {
				r := c.rule(ch, origin("zone", z.Name, z.Place), pass(), equal(ruleset.IIfName, ifname(u.Interface)...))
				r.Do = []ruleset.Statement{{Kind: ruleset.SetCtMark, Value: u.Mark, Mask: u.Mask}}
			}
		}
	}
	c.dispatch(base, from, "")
	c.rule(base, own("ipmasq"), pass())

	base = c.base("route_output", ruleset.TypeRoute, ruleset.Output, prioritySymmetric)
	c.toAnswers(base)
	c.rule(base, own("ipmasq"), pass())
}

const answersChain = "symmetric_answers"

// toAnswers sends what answers within a marked flow to be marked: a rule for
// each mask, of which there is mostly one.
func (c *compiler) toAnswers(base *ruleset.Chain) {
	var masks []uint32
	for i := range c.uplinks {
		if mask := c.uplinks[i].Mask; !slices.Contains(masks, mask) {
			masks = append(masks, mask)
			unmarked := ctMark(0, mask)
			unmarked.Op = ruleset.NotMasked
			c.rule(base, own("symmetric"), goTo(answersChain), equal(ruleset.CtDirection, ruleset.CtReply), unmarked)
		}
	}
}

// answers builds the chain that gives answers the mark of their flow, and
// leaves the other bits to whoever uses them.
func (c *compiler) answers() {
	ch := c.chain(answersChain, own("symmetric"))
	for i := range c.uplinks {
		u := &c.uplinks[i]
		z := c.byName[u.Zone]
		r := c.rule(ch, origin("zone", z.Name, z.Place), pass(), ctMark(u.Mark, u.Mask))
		r.Do = []ruleset.Statement{{Kind: ruleset.SetMark, Value: u.Mark, Mask: u.Mask}}
	}
	c.rule(ch, own("symmetric"), pass())
}

func ctMark(value, mask uint32) ruleset.Match {
	return ruleset.Match{
		Fields: []ruleset.Field{ruleset.CtMark}, Op: ruleset.Masked,
		Value: binary.BigEndian.AppendUint32(nil, value), High: binary.BigEndian.AppendUint32(nil, mask),
	}
}
