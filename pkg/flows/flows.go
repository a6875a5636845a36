// Package flows tells what a policy has to do with the connections in the
// kernel's table: which entry translated one or let it pass, between which
// zones it goes, and whether the rules would make the same of it today.
//
// It looks at tuples, the ruleset and the host's routes, and takes nobody's
// mark. Conntrack does not remember everything that the rules looked at, so a
// judgement can be wrong:
//
//   - The interface that a flow came in by is not known. It is taken for the one
//     that leads back to its source, or the one that holds the address that it
//     was sent to; the one that it leaves by, for one that the routes lead out
//     of. Of several, any that explains the flow is believed. Antispoof, which
//     compares the two, so hardly ever speaks against a flow.
//   - Routes, addresses and the sets of the policy are those of now.
//   - What stays on a bridge is judged as if it were forwarded, which it is where
//     br_netfilter shows it to the rules.
//   - Limits and rates are taken to have room (package explain).
//   - Only the first packet counts, and of TCP that it was a SYN. What the
//     packet's mark was, and other things that no tuple shows, are not known.
//   - Another table may have translated a flow before our rules had their turn.
//     A translation that no rule of ours makes is taken for such a one: the rules
//     are then asked for their verdict alone (Foreign). It looks the same where an
//     entry made it that is no longer in the policy. Who judges the flow by the
//     policy that was in force too knows: by that it is Ours.
package flows

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Routes are what the host's routing tables say.
type Routes interface {
	// Leaves gives the interfaces by which a packet to an address may leave, the
	// best first: of all tables, default routes and next hops that it may meet.
	Leaves(to netip.Addr) []string
	// Way gives those of them that one without a mark leaves by.
	Way(to netip.Addr) []string
	// LocalOn says whether an interface holds an address.
	LocalOn(a netip.Addr, iface string) bool
	// Kind is the kind of an address (RTN_* of rtnetlink(7)).
	Kind(a netip.Addr) uint32
}

// Judge judges connections by one ruleset. It serves one goroutine at a time.
type Judge struct {
	host    *host
	walker  *explain.Walker
	zones   *Zones
	uplinks []Uplink
	in, out [mostCandidates]string
	packet  explain.Packet
	other   Judgement // of a way that may be better than the best so far

	judged   int // as long as it is not worth while to have classes
	classes  *classes
	classify func() *classes
}

// NewJudge takes the ruleset that a policy compiled to on a host. The policy's
// zones are resolved (compile.Facts.Resolve).
func NewJudge(rules *ruleset.Ruleset, p *policy.Policy, facts link.Facts, routes Routes) *Judge {
	h := newHost(facts, routes)
	w := explain.New(rules, h)
	w.Guess = true
	j := &Judge{host: h, walker: w, zones: ZonesOf(p), uplinks: Uplinks(rules)}
	j.classify = func() *classes { return newClasses(rules, p, facts, routes, j.uplinks) }
	return j
}

// Judgement is what a ruleset has to say of a connection.
type Judgement struct {
	// Origin is the entry that translated the connection, its destination first,
	// or, where none did, let it pass ("forward default" too). Its Entry is ""
	// where no entry of ours did either.
	Origin ruleset.Origin
	// Also are further entries that it went through: the one that translated its
	// source, where Origin did its destination, and the rule of forward or input
	// that let it pass. Their Entry is "" where there is none.
	Also [2]ruleset.Origin
	// From and To are the zones of its two ends, "" where there is none. The
	// gateway's own end is "gateway".
	From, To string
	// Fits says that the ruleset would make of the first packet what was made
	// of it. It is true as well where nothing can be said: there is no route to
	// one of its ends.
	Fits bool
	// Ours says that a translating entry of the ruleset accounts for the
	// translation that the connection has.
	Ours bool
	// Foreign says that it has a translation that no rule of the ruleset makes:
	// another table's, or that of an entry that is gone. Why is then "would not be
	// translated", unless there is worse to say, and Fits is the verdict's: the
	// rules let what became of the packet pass.
	Foreign bool
	// Wants is the entry that would do something else, where it does not fit,
	// and Why says what: "is not translated", "would be dropped", "would be
	// rejected", "would go to 10.0.0.7:80", "would leave as 203.0.113.9", "would
	// not be translated".
	Wants ruleset.Origin
	Why   string
}

// Gateway is the name that the host's own end of a connection has, instead of
// a zone's.
const Gateway = "gateway"

// mostCandidates is how many interfaces are tried for each side.
const mostCandidates = 8

// Judge judges one connection.
func (j *Judge) Judge(f *conntrack.Flow) (out Judgement) {
	if f.Status&conntrack.StatusExpected != 0 {
		return j.expected(f)
	}
	if j.judged++; j.judged == worthClasses {
		j.classes = j.classify()
	}
	var of class
	classed := false
	if j.classes != nil {
		if of, classed = j.classes.of(f); classed {
			if known := j.classes.known[of]; known != nil {
				return *known
			}
		}
	}
	j.first(&out, f)
	if classed && !j.walker.ByHostBits {
		j.classes.remember(of, &out)
	}
	return out
}

// first judges a connection as if there were no other like it.
func (j *Judge) first(out *Judgement, f *conntrack.Flow) {
	j.walker.ByHostBits = false
	p := &j.packet
	*p = explain.Packet{
		Source: f.Original.Source, Destination: f.Original.Destination,
		SourcePort: f.Original.SourcePort, DestinationPort: f.Original.DestinationPort,
		Protocol: f.Protocol, ICMPType: f.Original.ICMPType, TCPFlags: ruleset.TCPSyn, State: ruleset.CtNew,
		Became: explain.Became{
			Source: f.Reply.Destination, Destination: f.Reply.Source,
			SourcePort: f.Reply.DestinationPort, DestinationPort: f.Reply.SourcePort,
		},
	}
	j.judge(out, p, f.Mark)
}

// expected judges a connection that a helper announced by the one that it was
// announced in: the rules let it pass as related, and translate it alike.
func (j *Judge) expected(f *conntrack.Flow) Judgement {
	if !f.Master.Destination.IsValid() {
		return Judgement{Fits: true}
	}
	p := &j.packet
	*p = explain.Packet{
		Source: f.Master.Source, Destination: f.Master.Destination,
		SourcePort: f.Master.SourcePort, DestinationPort: f.Master.DestinationPort,
		Protocol: f.MasterProtocol, ICMPType: f.Master.ICMPType, TCPFlags: ruleset.TCPSyn, State: ruleset.CtNew,
	}
	var judgement Judgement
	j.judge(&judgement, p, f.Mark)
	judgement.Ours = judgement.Ours && (f.SNAT() || f.DNAT())
	switch {
	case !f.Original.Source.IsValid(), f.Original.Source == f.Master.Source:
	case f.Reply.Source == f.Master.Source: // it was opened from the other side
		judgement.From, judgement.To = judgement.To, judgement.From
	default: // it is between other hosts
		judgement.From, judgement.To = j.towards(f.Original.Source), j.towards(f.Reply.Source)
	}
	return judgement
}

// judge tries the ways that a packet can have taken, and believes the first by
// which the rules make of it what it became.
func (j *Judge) judge(best *Judgement, p *explain.Packet, mark uint32) {
	h := j.host
	to := p.Destination
	if p.Became.Destination.IsValid() {
		to = p.Became.Destination
	}
	ins := append(j.in[:0], "")
	if !h.local(p.Source) {
		if p.Source.IsUnspecified() {
			best.Fits = true // a host without an address can be anywhere
			return
		}
		if ins = j.inputs(j.in[:0], p, mark); len(ins) == 0 {
			best.Fits, best.To = true, j.towards(to)
			return
		}
	}
	outs := append(j.out[:0], "")
	if p.Became.Destination.IsValid() && !h.local(to) {
		if list := h.Leaves(to); len(list) > 0 {
			outs = j.outputs(j.out[:0], list, p.Became.Source)
		}
	}
	p.In, p.Out = ins[0], outs[0]
	bestRank := j.assess(best, p, j.walker.Walk(p))
	if bestRank == explained {
		return
	}
	other := &j.other
	for i, in := range ins {
		if i > 0 && best.From != "" && j.zones.Of(in, p.Source) == "" {
			continue // the rules say nothing there, and so it would explain anything
		}
		for k, out := range outs {
			if i+k == 0 {
				continue
			}
			p.In, p.Out = in, out
			rank := j.assess(other, p, j.walker.Walk(p))
			if rank == explained {
				*best = *other
				return
			}
			// That another table translated it where no entry could have is no
			// reason to think so of a way that an entry is for.
			elsewhere := rank == foreign && other.To == "" && best.To != ""
			if rank > bestRank && !elsewhere {
				*best, bestRank = *other, rank
			}
		}
	}
}

// inputs adds the interfaces that a packet can have come in by, the likeliest
// first: the uplink that its flow's mark tells, and those that lead back to its
// source. Where one of them holds the address that it was sent to, it is that
// one, unless its source is inside: the table of a mark leads out from there
// too. So it is where another uplink does, which may lead nowhere by now.
func (j *Judge) inputs(list []string, p *explain.Packet, mark uint32) []string {
	for i := range j.uplinks {
		if u := &j.uplinks[i]; u.Mark != 0 && mark&u.Mask == u.Mark {
			list = add(list, u.Name)
		}
	}
	leaves, holder, outside := j.host.Leaves(p.Source), "", false
	if p.Source.Is6() && p.Source.IsLinkLocalUnicast() {
		// Every link leads back to it, and there may be more than can be tried.
		for _, name := range leaves {
			if j.host.LocalOn(p.Destination, name) {
				list = add(list, name)
			}
		}
		if len(list) > 0 && p.Destination.IsLinkLocalUnicast() {
			return list
		}
	}
	if j.host.local(p.Destination) {
		holder = j.host.holder[p.Destination]
	}
	for _, name := range leaves {
		if name == holder && (name == leaves[0] || j.host.uplinks[leaves[0]]) {
			return add(list, name)
		}
		outside = outside || holder != "" && j.host.uplinks[name]
	}
	if outside && j.host.uplinks[holder] {
		list = add(list, holder)
	}
	for _, name := range leaves {
		list = add(list, name)
	}
	return list
}

// outputs adds the interfaces that lead to where a packet went, first those
// that hold the source that it left with.
func (j *Judge) outputs(list, leaves []string, source netip.Addr) []string {
	if len(leaves) > 1 {
		if holder := j.host.holder[source]; holder != "" {
			for _, name := range leaves {
				if name == holder {
					list = add(list, name)
				}
			}
		}
	}
	for _, name := range leaves {
		list = add(list, name)
	}
	return list
}

// add puts a name on a list that has room for it and does not have it yet.
func add(list []string, name string) []string {
	if len(list) == cap(list) {
		return list
	}
	for _, x := range list {
		if x == name {
			return list
		}
	}
	return append(list, name)
}

// towards is the zone of an address that packets go to. What many hosts share
// the gateway has too.
func (j *Judge) towards(a netip.Addr) string {
	if j.host.local(a) || j.host.shared(a) {
		return Gateway
	}
	if list := j.host.Leaves(a); len(list) > 0 {
		return j.zones.Of(list[0], a)
	}
	return ""
}
