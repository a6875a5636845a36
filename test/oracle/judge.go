package oracle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/random"
)

// judge says what explain makes of packets.
type judge struct {
	walker  *explain.Walker
	uplinks []uplink
	loose   bool
}

// uplink is one that what has its mark leaves by.
type uplink struct {
	name       string
	family     int
	mark, mask uint32
}

func (g *Gateway) judge(p *random.Policy) *judge {
	j := &judge{walker: explain.New(p.Compiled.Ruleset, flows.NewHost(g.routes.Facts, g.routes)), loose: g.loose()}
	own := g.routes.Facts.Own
	for _, r := range own.Rules {
		i := slices.IndexFunc(own.Routes, func(x link.Route) bool { return x.Table == r.Table && x.Family == r.Family })
		if i >= 0 {
			j.uplinks = append(j.uplinks, uplink{own.Routes[i].Interface, map[link.Family]int{link.IPv6: 1}[r.Family], r.Mark, r.Mask})
		}
	}
	return j
}

// walk takes a packet through the rules. The mark that it has by then can lead
// it to another uplink.
func (j *judge) walk(p *explain.Packet) explain.Result {
	r := *j.walker.Walk(p)
	for _, u := range j.uplinks {
		if u.family == family(p.Source) && r.Mark&u.mask == u.mark && !r.Local && r.Out != u.name {
			p.Out = u.name
			return *j.walker.Walk(p)
		}
	}
	return r
}

func (j *judge) packet(p *Packet) *explain.Packet {
	x := &explain.Packet{
		In: p.In, Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort,
		ICMPType: p.ICMPType, TCPFlags: p.Flags, HopLimit: p.HopLimit,
	}
	if !hasPorts(p.Protocol) {
		x.SourcePort, x.DestinationPort = 0, 0
	}
	x.State = explain.Begins(x, j.loose)
	return x
}

func became(e Ends, protocol uint8) explain.Became {
	if !hasPorts(protocol) {
		e.SourcePort, e.DestinationPort = 0, 0
	}
	return explain.Became{Source: e.Source, Destination: e.Destination, SourcePort: e.SourcePort, DestinationPort: e.DestinationPort}
}

func endsFrom(b explain.Became) Ends {
	return Ends{b.Source, b.Destination, b.SourcePort, b.DestinationPort}
}

// Difference is a packet that the kernel did something else with than explain
// says.
type Difference struct {
	Packet Packet
	index  int // of the packet that opens its flow
	Fate   Fate
	Flow   string // what conntrack keeps, or ""
	Result explain.Result
	Steps  []explain.Step
	What   string
}

// compare says what is different, or "". Told is what explain was told of the
// flow, nil of a packet without one.
func (g *Gateway) compare(p *Packet, r *explain.Result, fate *Fate, told bool) string {
	want := Fate{Verdict: Left, Link: r.Out, Ends: endsFrom(r.Ends)}
	switch {
	case r.Verdict == ruleset.Drop:
		want = Fate{}
	case r.Verdict == ruleset.Reject:
		want = Fate{Verdict: Answered, With: r.With}
		if fate.Verdict == Dropped && (!p.answerable() || g.shared(p) || len(g.routes.Way(p.Source)) == 0) {
			want = Fate{}
		}
	case r.Verdict == ruleset.Synproxy:
		want = Fate{Verdict: Answered, With: "syn ack"}
		if p.Flags&ruleset.TCPSyn == 0 {
			want = Fate{} // it completes no handshake that was begun
		} else if fate.Verdict == Dropped && (p.Source.Is6() || len(g.routes.Way(p.Source)) == 0) {
			return "" // see Limits; nor is there an answer without a way back
		}
	case r.Unrouted:
		want = Fate{}
		if fate.Verdict == Answered && strings.HasPrefix(fate.With, "icmp ") {
			return "" // routing says that it has no way
		}
	case r.Local:
		want = Fate{Verdict: Delivered, Ends: endsFrom(r.Ends)}
	}
	if fate.Verdict != want.Verdict || fate.Link != want.Link || fate.With != want.With || fate.Twice {
		return "explain says that it " + want.String()
	}
	switch want.Verdict {
	case Left, Delivered:
		got := fate.Ends
		if !hasPorts(p.Protocol) {
			got.SourcePort, got.DestinationPort = 0, 0
		}
		if got != want.Ends {
			return "explain says that it " + want.String()
		}
		if fate.Mark != r.Mark {
			return fmt.Sprintf("explain says that its mark is %#x", r.Mark)
		}
	case Answered:
		if got, want := fate.Ends, p.reversed(); p.Protocol == tcp && got != want || got.Destination != want.Destination {
			return fmt.Sprintf("the answer is %s", got)
		}
	}
	if !told {
		return ""
	}
	for _, t := range []*explain.Translation{&r.DNAT, &r.SNAT} {
		switch {
		case t.Foreign:
			return fmt.Sprintf("explain knows of no translation, and it became %s", fate.Ends)
		case !t.Allowed && t.Kind != ruleset.Continue:
			return fmt.Sprintf("explain says that it becomes %s port %d", t.Address, t.Port)
		}
	}
	return ""
}

// answerable says whether a refusal of a packet is sent: not to many, nor
// about errors and resets.
func (p *Packet) answerable() bool {
	if p.Protocol == tcp && p.Flags&ruleset.TCPRst != 0 || p.complains() || p.Destination.IsUnspecified() || p.Destination.IsMulticast() {
		return false
	}
	if p.Protocol == icmp4 && slices.Contains([]uint8{1, 2, 6, 7, 9, 10, 40}, p.ICMPType) {
		return false // taken for an error (icmp_pointers)
	}
	switch p.Protocol {
	case tcp, udp, udplite, sctp, icmp4, icmp6, gre, 50, ah:
	default:
		return false // the kernel looks for a checksum where there is none (nf_reject_verify_csum)
	}
	return !p.Source.IsUnspecified() && !p.Source.IsMulticast() && !p.Source.IsLoopback()
}

// Round sends packets, the answers to those that passed, and a second one of
// each of their flows, and compares.
type Round struct {
	Sent, Passed, Skipped int
	Differences           []Difference
	// Entries are those that had a hand in it.
	Entries map[string]int
}

// Play sends packets through the policy in force, and compares with what the
// judge has to say of them.
func (g *Gateway) play(j *judge, packets []*Packet) *Round {
	g.t.Helper()
	round := &Round{Entries: map[string]int{}}
	fates := g.Send(packets, func(i int) uint32 { return g.tag(i, first) })
	table := g.flows()
	byOriginal, byReply := map[tuple]*conntrack.Flow{}, map[tuple]*conntrack.Flow{}
	for i := range table {
		byOriginal[originalOf(&table[i])] = &table[i]
		byReply[replyOf(&table[i])] = &table[i]
	}
	var open []opened
	for i, p := range packets {
		fate := &fates[i]
		flow := byOriginal[tupleOf(p)]
		if other := byReply[tupleOf(p)]; other != nil && other != flow {
			round.Skipped++ // it is taken for the answer of another flow
			continue
		}
		x := j.packet(p)
		told := flow != nil && x.State == ruleset.CtNew
		switch {
		case told:
			x.Became = became(endsOf(&flow.Reply).reversed(), p.Protocol)
		case fate.Led.Destination.IsValid():
			x.Became = became(Ends{p.Source, fate.Led.Destination, p.SourcePort, fate.Led.DestinationPort}, p.Protocol)
		}
		r := j.walk(x)
		round.note(&r)
		if fate.Verdict == Dropped && !x.Became.Destination.IsValid() {
			x, r = j.kept(p, x, r)
		}
		if fate.Verdict == Dropped && r.Verdict == ruleset.Accept && crowded(p, &r, table) {
			round.Skipped++
			continue
		}
		what := g.compare(p, &r, fate, told)
		passed := fate.Verdict == Left || fate.Verdict == Delivered
		switch {
		case what != "":
		case passed && x.State == ruleset.CtNew && !told && !r.Untracked:
			what = "conntrack keeps no flow"
		case told && !passed && r.Verdict != ruleset.Reject:
			what = "conntrack keeps a flow"
		case told && flow.Mark != r.CtMark:
			what = fmt.Sprintf("explain says that the flow is marked %#x, and it is %#x", r.CtMark, flow.Mark)
		}
		if what != "" {
			round.differs(j, p, i, x, fate, flow, what)
			continue
		}
		if passed && told && !g.shared(p) {
			open = append(open, opened{index: i, p: p, fate: fate, flow: flow, mark: r.CtMark})
		}
	}
	round.Sent, round.Passed = len(packets), len(open)
	g.follow(j, round, open, answer)
	g.follow(j, round, open, again)
	g.tags += uint32(len(packets))
	g.forget()
	return round
}

// kept is what else may have become of a packet that was dropped: of several
// addresses it may have got the one that it had, which is no translation, and is
// no flow that shows it.
func (j *judge) kept(p *Packet, x *explain.Packet, r explain.Result) (*explain.Packet, explain.Result) {
	for _, to := range []Ends{p.Ends, {p.Source, r.Ends.Destination, p.SourcePort, r.Ends.DestinationPort}} {
		if r.DNAT.Kind != ruleset.DNAT && r.SNAT.Kind != ruleset.SNAT {
			break
		}
		kept := *x
		kept.Became = became(to, p.Protocol)
		s := j.walk(&kept)
		allowed := (s.DNAT.Kind == ruleset.Continue || s.DNAT.Allowed) && (s.SNAT.Kind == ruleset.Continue || s.SNAT.Allowed)
		if allowed && (s.Verdict == ruleset.Drop || s.Unrouted) {
			return &kept, s
		}
	}
	return x, r
}

// crowded says whether a packet without ports would become that of another flow:
// the kernel has nothing to tell the two apart by, and drops it.
func crowded(p *Packet, r *explain.Result, table []conntrack.Flow) bool {
	if hasPorts(p.Protocol) || p.identified() {
		return false
	}
	return slices.ContainsFunc(table, func(f conntrack.Flow) bool {
		meets := f.Reply.Destination == r.Ends.Source || f.SNAT() && r.SNAT.Kind != ruleset.Continue // of a pool it may have got that
		return f.Protocol == p.Protocol && f.Reply.Source == r.Ends.Destination && meets
	})
}

// opened is a packet that has opened a flow.
type opened struct {
	index int
	p     *Packet
	fate  *Fate
	flow  *conntrack.Flow
	mark  uint32
	// answered says that conntrack has seen an answer.
	answered bool
}

func (g *Gateway) tag(i int, s step) uint32 { return 1 + (g.tags+uint32(i))%(1<<20)*3 + uint32(s) }

// follow sends one more packet of each flow.
func (g *Gateway) follow(j *judge, round *Round, open []opened, s step) {
	g.t.Helper()
	var packets []*Packet
	var of []*opened
	for i := range open {
		o := &open[i]
		if originalOf(o.flow) == replyOf(o.flow) {
			continue // whose way it goes cannot be told
		}
		if p := o.next(s); p.In != "" || !groups(g.routes, p.Destination) {
			packets, of = append(packets, p), append(of, o)
		}
	}
	fates := g.Send(packets, func(i int) uint32 { return g.tag(of[i].index, s) })
	round.Sent += len(packets)
	for i, p := range packets {
		o, fate := of[i], &fates[i]
		x := j.packet(p)
		x.CtMark = o.mark
		if s == answer || o.answered {
			x.State = ruleset.CtEstablished
		}
		x.Flow = &explain.Flow{Original: became(endsOf(&o.flow.Original), p.Protocol), Reply: became(endsOf(&o.flow.Reply), p.Protocol), Answer: s == answer}
		if p.Protocol == icmp4 || p.Protocol == icmp6 {
			x.Flow.Original.SourcePort, x.Flow.Reply.DestinationPort = o.flow.Original.ICMPID, o.flow.Reply.ICMPID
		}
		r := j.walk(x)
		round.note(&r)
		// What raw drops conntrack does not see, nor what has no way out.
		o.answered = o.answered || s == answer && !(r.Verdict == ruleset.Drop && r.At == ruleset.Prerouting) && !(r.Unrouted && p.In == "")
		what := g.compare(p, &r, fate, false)
		if what == "" && p.identified() && s == answer && (fate.Verdict == Left || fate.Verdict == Delivered) && fate.Ends.SourcePort != o.p.SourcePort {
			what = fmt.Sprintf("its identifier is %d", fate.Ends.SourcePort)
		}
		if what != "" {
			round.differs(j, p, o.index, x, fate, o.flow, what)
		}
	}
}

// next is a further packet of an open flow.
func (o *opened) next(s step) *Packet {
	p := *o.p
	p.step = s
	if s == again {
		if p.Protocol == tcp && o.answered {
			p.Flags = ruleset.TCPAck
		}
		return &p
	}
	p.Ends = o.fate.Ends.reversed()
	p.In = o.fate.Link // "" where it was delivered
	switch p.Protocol {
	case tcp:
		p.Flags = p.Flags&ruleset.TCPSyn | ruleset.TCPAck
	case icmp4:
		if p.SourcePort, p.DestinationPort = o.fate.Ends.SourcePort, 0; p.ICMPType != 8 {
			p.ICMPType++
			break
		}
		p.ICMPType = 0
	case icmp6:
		p.SourcePort, p.DestinationPort = o.fate.Ends.SourcePort, 0
		p.ICMPType++
	}
	return &p
}

func (round *Round) note(r *explain.Result) {
	for _, o := range []*ruleset.Origin{r.By, r.DNAT.Origin, r.SNAT.Origin} {
		if o != nil {
			round.Entries[o.Entry]++
		}
	}
}

func (round *Round) differs(j *judge, p *Packet, index int, x *explain.Packet, fate *Fate, flow *conntrack.Flow, what string) {
	d := Difference{Packet: *p, index: index, Fate: *fate, What: what}
	if flow != nil {
		d.Flow = flow.String()
	}
	j.walker.Trace = func(s explain.Step) { d.Steps = append(d.Steps, s) }
	d.Result = *j.walker.Walk(x)
	j.walker.Trace = nil
	round.Differences = append(round.Differences, d)
}

// String is the difference as a person reads it.
func (d *Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "packet   %s\nkernel   it %s\n", &d.Packet, d.Fate)
	if d.Flow != "" {
		fmt.Fprintf(&b, "         conntrack: %s\n", d.Flow)
	}
	fmt.Fprintf(&b, "explain  %s\n", d.What)
	for _, s := range d.Steps {
		place := ""
		if s.Origin.Place.Line != 0 {
			place = " (" + s.Origin.Place.String() + ")"
		}
		fmt.Fprintf(&b, "         %-11s %-30s %s%s  %s\n", s.Hook, s.Chain.Name, s.Origin.Entry, place,
			Ends{s.Source, s.Destination, s.SourcePort, s.DestinationPort})
	}
	return b.String()
}
