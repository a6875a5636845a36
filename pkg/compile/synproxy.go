package compile

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What a synproxy tells a client before it knows the server. A client sends no
// larger segments than its own link takes, so that IPv6 needs no other size. A
// server whose window has a larger scale than this looks slower than it is; one
// with a smaller scale would be overrun.
const (
	synproxyMSS         = 1460
	synproxyWindowScale = 7
	// fitsAll is a size that fits every path of IPv6, and so of IPv4: 1280 bytes
	// without the headers (RFC 8200, 5).
	fitsAll = 1220
	// retried is the largest segment size of a client, in IPv4, for which the
	// kernel can open the connection to a server again. It reads the size from
	// the client's next packet, whose number is one less, and so finds the next
	// larger one of its table; there is none behind 1460 (synproxy_recv_client_ack,
	// and msstab in net/ipv4/syncookies.c).
	retried = 1459
)

// What opens a connection, and what completes the handshake.
const handshakeFlags = ruleset.TCPFin | ruleset.TCPSyn | ruleset.TCPRst | ruleset.TCPAck

func isSYN() ruleset.Match { return flags(ruleset.Masked, ruleset.TCPSyn, handshakeFlags) }
func isACK() ruleset.Match { return flags(ruleset.Masked, ruleset.TCPAck, handshakeFlags) }

// proxied gives the rules that TCP from a zone meets up to the last one that
// has the gateway answer in the place of the server; none where no rule does.
// As in forward and in input, the first that matches decides.
func (x *filter) proxied(z *zone) (rules []int) {
	last := 0
	for i := range x.Rules {
		r := &x.Rules[i]
		if !slices.Contains(x.conditions[i].from, z) || len(r.Protocols) > 0 && !hasProtocol(r.Protocols, policy.ProtocolTCP) {
			continue
		}
		if rules = append(rules, i); r.Synproxy {
			last = len(rules)
		}
	}
	return rules[:last]
}

// untracked has SYNs that the gateway is to answer pass without conntrack, so
// that a flood of them leaves no trace: they are told by what is known before
// routing. What a rule of forward matches goes to where the routes say.
func (c *compiler) untracked(base func() *ruleset.Chain) {
	from := map[*zone]string{}
	for _, z := range c.zones {
		through := c.untrackedBy(c.rules, z)
		own := ""
		if c.inputRules != nil {
			own = c.untrackedBy(c.inputRules, z)
		}
		if through == "" && own == "" {
			continue
		}
		from[z] = "synproxy_from_" + z.Name
		zo := origin("zone", z.Name, z.Place)
		ch := c.chain(from[z], zo)
		if own == "" {
			c.rule(ch, zo, pass(), isLocal())
		} else {
			c.rule(ch, zo, goTo(own), isLocal())
		}
		if through != "" {
			c.rule(ch, zo, goTo(through))
		}
	}
	if len(from) == 0 {
		return
	}
	c.strict = true
	ch := c.chain("synproxy_opening", own("synproxy"))
	c.dispatch(ch, from, "")
	c.rule(base(), own("synproxy"), jumpTo(ch.Name), equal(ruleset.L4Proto, policy.ProtocolTCP), isSYN())
}

// untrackedBy makes the chain for what meets the rules of forward or input, and
// gives its name, or "" where it is not needed.
func (c *compiler) untrackedBy(x *filter, z *zone) string {
	rules := x.proxied(z)
	if len(rules) == 0 {
		return ""
	}
	ch := c.chain("synproxy_"+x.section+"_from_"+z.Name, origin("zone", z.Name, z.Place))
	for _, i := range rules {
		r := &x.Rules[i]
		var do []ruleset.Statement
		if r.Synproxy {
			do = []ruleset.Statement{{Kind: ruleset.NoTrack}}
		}
		c.statements(ch, x.origin(r), c.ruleCondition(x, r, ruleset.FibDaddrOIfName), do)
	}
	return ch.Name
}

// statements appends rules that do something and leave the hook.
func (c *compiler) statements(ch *ruleset.Chain, o ruleset.Origin, when []alternative, do []ruleset.Statement) {
	for _, a := range when {
		m := a.matches
		if f, one := a.family.index(); one {
			m = append([]ruleset.Match{isFamily(f)}, m...)
		}
		c.rule(ch, o, pass(), m...).Do = do
	}
}

// handshakes appends to the chain of a zone what answers its handshakes. It stands
// before what is invalid is dropped, which the last packet of such a handshake
// is to conntrack.
func (c *compiler) handshakes(ch *ruleset.Chain, z *zone, x *filter) {
	rules := x.proxied(z)
	if len(rules) == 0 {
		return
	}
	o := own("synproxy")
	shakes := c.chain(x.section+"_handshakes_from_"+z.Name, o)
	for _, i := range rules {
		r, do := &x.Rules[i], ruleset.Action{Kind: ruleset.Return}
		if r.Synproxy {
			do = goTo(c.handshake(x, r, x.conditions[i]))
		}
		c.entryRules(shakes, x.origin(r), x.conditions[i].when, "", do)
	}
	c.rule(ch, o, jumpTo(shakes.Name), anyBit(ruleset.CtStateField, ruleset.CtInvalid|ruleset.CtUntracked), equal(ruleset.L4Proto, policy.ProtocolTCP))
}

// handshake makes the chain that answers a rule's handshakes, and gives its
// name. A connection counts where the client completes it: the gateway then
// opens one to the server, from the client's address. What is neither a SYN nor
// the answer to the gateway's own goes back to be dropped.
func (c *compiler) handshake(x *filter, r *policy.Rule, on condition) string {
	o, object := x.origin(r), x.object(r)
	name := fit("handshakes_of_" + object)
	if c.chains[name] {
		return name
	}
	ch := c.chain(name, o)
	tcp := equal(ruleset.L4Proto, policy.ProtocolTCP)
	answer := ruleset.Action{Kind: ruleset.Synproxy, Syn: c.offer(x, r)}
	c.rule(ch, o, ruleset.Action{}, isFamily(0), tcp, isSYN()).Do = []ruleset.Statement{{Kind: ruleset.SetMaxSeg, Value: retried}}
	c.rule(ch, o, answer, tcp, isSYN(), anyBit(ruleset.CtStateField, ruleset.CtUntracked))
	c.rule(ch, o, ruleset.Action{Kind: ruleset.Return}, tcp, flags(ruleset.NotMasked, ruleset.TCPAck, handshakeFlags))
	// What completes a handshake has no direction yet that could be the key of
	// all; its protocol is always the same.
	c.limitBy(ch, o, object, attributes{limits: r.Limits, families: on.families()}, ruleset.L4Proto)
	c.log(ch, o, r.Log)
	c.rule(ch, o, answer, tcp, isACK()).Counter = c.counter(object, o)
	return name
}

// offer is what clients of a rule are told. Where a zone on the way lowers the
// segment size, so does the gateway; what the path would take is not known yet.
func (c *compiler) offer(x *filter, r *policy.Rule) ruleset.Syn {
	s := ruleset.Syn{MSS: synproxyMSS, WindowScale: synproxyWindowScale, SACK: true, Timestamp: true}
	zones := c.zones
	if len(r.From) > 0 {
		zones = c.refs(r.From)
	}
	if x.section == c.rules.section {
		to := c.towards(r.To)
		if to == nil {
			to = c.zones
		}
		zones = append(slices.Clone(zones), to...)
	}
	for _, z := range zones {
		switch {
		case z.MSSClamp.PathMTU:
			s.MSS = min(s.MSS, fitsAll)
		case z.MSSClamp.Size != 0:
			s.MSS = min(s.MSS, z.MSSClamp.Size)
		}
	}
	return s
}

// keptAlive lets pass what a client sends while the gateway still waits for the
// server: the kernel opens that connection again with it. Anything else that is
// new and comes by here was not answered by the gateway, and is not accepted.
func (c *compiler) keptAlive(ch *ruleset.Chain, o ruleset.Origin, when []alternative) {
	c.entryRules(ch, o, and(when, []alternative{{matches: []ruleset.Match{isACK(), anyBit(ruleset.CtStateField, ruleset.CtNew)}}}), "", pass())
}

// sparesAnswers lets pass what the gateway tells a client in the place of an
// inside server, which conntrack does not know.
func (c *compiler) sparesAnswers(guard *ruleset.Chain) {
	if c.strict {
		c.rule(guard, own("synproxy"), pass(), equal(ruleset.IIf, 0, 0, 0, 0), equal(ruleset.L4Proto, policy.ProtocolTCP),
			flags(ruleset.Masked, ruleset.TCPSyn|ruleset.TCPAck, handshakeFlags), anyBit(ruleset.CtStateField, ruleset.CtInvalid))
	}
}
