package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// cutAtOnce is how many flows are deleted together.
const cutAtOnce = 2000

// reconciler decides which flows a policy contradicts.
type reconciler struct {
	cut     *Cut
	now     *flows.Judge
	before  func() []*flows.Judge // of the policies before, made when they are asked for
	obeyed  func() bool           // the rules of all of them were in force all the time
	session *compile.Session
	kind    func(netip.Addr) uint32 // of an address, by the routes
	// first are the host's addresses that are the first of a family on their link,
	// and networks those that they are in, with whether a bridge may carry what is
	// sent within and not show it to the rules.
	first    map[netip.Addr]bool
	networks []network
	groups   map[CutBy]int // index into cut.By

	deletes *conntrack.Conn // nil: nothing is deleted
	batch   []conntrack.Flow
	divert  []conntrack.Diversion
	failed  error
	// forgotten is why it is not known what a policy before translated.
	forgotten error

	// What helpers announced goes with what announced it.
	expected []conntrack.Flow
	masters  map[opened]CutBy
}

// network is one that the host is in.
type network struct {
	netip.Prefix
	bridged bool
}

// opened is how the first packet of a flow came.
type opened struct {
	protocol uint8
	conntrack.Tuple
}

func (e *Engine) reconciler(pl *Plan) (*reconciler, error) {
	rules, p := pl.rules, pl.facts.compile().Resolve(pl.Policy)
	if rules == nil { // there were no flows when it was compiled
		compiled, err := compile.Compile(pl.Policy, pl.facts.compile())
		if err != nil {
			return nil, err
		}
		rules = compiled.Ruleset
	}
	var routes *link.Routes
	if err := e.NetNS.Do(func() (err error) {
		routes, err = link.ReadRoutes()
		return err
	}); err != nil {
		return nil, err
	}
	pl.Cut = Cut{}
	r := &reconciler{
		cut: &pl.Cut, now: flows.NewJudge(rules, p, routes.Facts, routes), session: e.Session, kind: routes.Kind,
		groups: map[CutBy]int{}, masters: map[opened]CutBy{}, first: map[netip.Addr]bool{},
	}
	v4, v6 := e.seesBridged()
	bridges := slices.ContainsFunc(routes.Facts.Links, func(l link.Link) bool { return l.Kind == "bridge" })
	for _, l := range routes.Facts.Links {
		had := [2]bool{}
		for _, a := range l.Addresses {
			own := a.Prefix.Addr()
			sees := own.Is4() && v4 || own.Is6() && v6
			r.networks = append(r.networks, network{a.Prefix.Masked(), l.Kind == "bridge" && !sees || bridges && l.Kind == "vlan"})
			if f := map[bool]int{true: 1}[own.Is6()]; !had[f] && !own.IsLinkLocalUnicast() {
				had[f], r.first[own] = true, true
			}
		}
	}
	slices.SortFunc(r.networks, func(a, b network) int { // the narrowest first
		return cmp.Or(b.Bits()-a.Bits(), cmp.Compare(map[bool]int{true: 1}[b.bridged], map[bool]int{true: 1}[a.bridged]))
	})
	r.before = sync.OnceValue(func() []*flows.Judge {
		var judges []*flows.Judge
		for _, digest := range pl.earlier {
			j, err := e.judge(digest, pl.facts, routes)
			if err != nil {
				r.forgotten = fmt.Errorf("what the policy before translated is not known: %w", err)
				continue
			}
			judges = append(judges, j)
		}
		return judges
	})
	r.obeyed = sync.OnceValue(func() bool {
		return len(pl.earlier) > 0 && len(r.before()) == len(pl.earlier) && pl.Rules.From.Digest() == pl.held
	})
	return r, nil
}

// judge judges by a stored policy.
func (e *Engine) judge(digest string, facts hostFacts, routes *link.Routes) (*flows.Judge, error) {
	p, err := e.stored(digest)
	if err != nil {
		return nil, err
	}
	compiled, err := compile.Compile(p, facts.compile())
	if err != nil {
		return nil, err
	}
	return flows.NewJudge(compiled.Ruleset, facts.compile().Resolve(p), routes.Facts, routes), nil
}

// see looks at a flow.
func (r *reconciler) see(f *conntrack.Flow) {
	if f.Status&conntrack.StatusExpected != 0 {
		r.expected = append(r.expected, *f)
		return
	}
	if by, contradicted := r.contradicts(f); contradicted {
		r.add(f, by)
	}
}

// contradicts says whether the policy contradicts a flow, and why. What others
// have translated, such as Docker and libvirt, is theirs, unless it would not
// pass any more: it is ours where a policy before accounts for it.
func (r *reconciler) contradicts(f *conntrack.Flow) (CutBy, bool) {
	if f.Zone != 0 || f.Original.Zone != 0 || f.Reply.Zone != 0 || r.beside(f) {
		return CutBy{}, false // no packet of it need have met our rules
	}
	j := r.now.Judge(f)
	by := CutBy{Entry: j.Wants.Entry, Why: j.Why}
	translated := f.SNAT() || f.DNAT()
	if !j.Fits && r.always(f, j) {
		return CutBy{}, false
	}
	if j.Untranslated() {
		return by, true
	}
	same := j.Fits && j.Ours && !j.Foreign
	takenOver := same && r.held(f, j)
	if !translated || same && !takenOver {
		return by, j.Refused()
	}
	for _, before := range r.before() {
		was := before.Judge(f)
		switch {
		case !was.Ours, takenOver && section(was.Origin) == section(j.Origin), j.Fits && j.Ours && j.Foreign && was.Foreign:
			continue
		case takenOver:
			by.Why = "would be for " + j.Origin.Entry
		case j.Refused() && j.Wants != was.Origin && j.Wants.Entry != "":
			by.Why += " by " + j.Wants.Entry
		}
		by.Entry = was.Origin.Entry
		return by, true
	}
	return by, j.Refused()
}

// always says whether the policies before had the very same against a flow, on
// the host as it is. They let it pass all the same, so it is not the policy that
// has changed: a link is down, or an address has moved.
func (r *reconciler) always(f *conntrack.Flow, j flows.Judgement) bool {
	if !r.obeyed() {
		return false
	}
	for _, before := range r.before() {
		if was := before.Judge(f); was.Fits || was.Ours != j.Ours || was.Why != j.Why && !(was.Refused() && j.Refused()) {
			return false
		}
	}
	return true
}

// beside says whether a flow is between two hosts of one network, which a bridge
// on this host may have shown to conntrack (nf_conntrack_bridge) and not to our
// rules: nobody has routed it.
func (r *reconciler) beside(f *conntrack.Flow) bool {
	a, b := f.Original.Source, f.Original.Destination
	if f.SNAT() || f.DNAT() || r.kind(a) != link.KindUnicast || r.kind(b) != link.KindUnicast {
		return false
	}
	i := slices.IndexFunc(r.networks, func(n network) bool { return n.Contains(a) })
	return i >= 0 && r.networks[i].bridged && r.networks[i].Contains(b) &&
		i == slices.IndexFunc(r.networks, func(n network) bool { return n.Contains(b) })
}

// held says whether a masquerade accounts for a flow that does not have the
// first address of its interface: the kernel may have chosen it, or it is what
// an entry gave it for which the masquerade stands now.
func (r *reconciler) held(f *conntrack.Flow, j flows.Judgement) bool {
	return section(j.Origin) == "masquerade" && !r.first[f.Reply.Destination]
}

// section gives "masquerade" of "masquerade lan-wan".
func section(o ruleset.Origin) string {
	name, _, _ := strings.Cut(o.Entry, " ")
	return name
}

// seeExpected looks at the flows that helpers announced. They go with the one
// that announced them; where that has ended, they are judged by it alone.
func (r *reconciler) seeExpected() {
	for i := range r.expected {
		f := &r.expected[i]
		by, cut := r.masters[opened{f.MasterProtocol, unzoned(f.Master)}]
		if !cut {
			by, cut = r.contradicts(f)
		}
		if cut {
			r.add(f, by)
		}
	}
}

// unzoned is a tuple as it is compared: the kernel does not tell the zone of
// every one.
func unzoned(t conntrack.Tuple) conntrack.Tuple {
	t.Zone = 0
	return t
}

func reversed(t conntrack.Tuple) conntrack.Tuple {
	t.Source, t.Destination = t.Destination, t.Source
	t.SourcePort, t.DestinationPort = t.DestinationPort, t.SourcePort
	return t
}

// add cuts a flow, unless it is the session that the command is run over.
func (r *reconciler) add(f *conntrack.Flow, by CutBy) {
	if carriesSession(r.session, f) {
		return
	}
	if f.Helper != "" {
		r.masters[opened{f.Protocol, unzoned(f.Original)}] = by
	}
	c := r.cut
	c.Total++
	if len(c.Flows) < cutListed {
		c.Flows = append(c.Flows, CutFlow{*f, by})
	}
	i, known := r.groups[by]
	if !known && len(c.By) >= cutReasons {
		by.Why = "would be treated otherwise"
		i, known = r.groups[by]
	}
	if !known {
		i = len(c.By)
		r.groups[by] = i
		c.By = append(c.By, by)
	}
	c.By[i].Flows++
	if r.deletes == nil {
		return
	}
	if first, last, comes := r.comesBack(f); comes {
		r.divert = append(r.divert, conntrack.Diversion{Flow: *f, First: first, Last: last})
	} else {
		r.batch = append(r.batch, *f)
	}
	if len(r.divert)+len(r.batch) == cutAtOnce {
		r.flush()
	}
}

// comesBack says whether a flow that a port forward made would go on when the
// target is the next to send: as one that the target opens, masqueraded to the
// address and port that the client knows. That is free once the flow is cut.
// First and last are other ports that the rules would let it leave from.
func (r *reconciler) comesBack(f *conntrack.Flow) (first, last uint16, comes bool) {
	own := int(f.Original.DestinationPort)
	if !f.DNAT() || f.SNAT() || own == 0 || f.Original.DestinationPort != f.Reply.SourcePort {
		return 0, 0, false
	}
	opposite := conntrack.Flow{
		Family: f.Family, Protocol: f.Protocol, Zone: f.Zone, Original: f.Reply, Reply: f.Original, Status: conntrack.StatusSNAT,
	}
	allowed := func(port int) bool {
		opposite.Reply.DestinationPort = uint16(port)
		j := r.now.Judge(&opposite)
		return j.Fits && j.Ours
	}
	if !allowed(own) {
		return 0, 0, false
	}
	// Those that it may have are next to its own.
	const lowest, highest = 1024, 65535
	run := func(n int, port func(i int) int) int {
		if n <= 0 || allowed(port(n-1)) {
			return max(n, 0)
		}
		return sort.Search(n, func(i int) bool { return !allowed(port(i)) })
	}
	from := max(own+1, lowest)
	above := run(highest-from+1, func(i int) int { return from + i })
	below := 0
	if above < highest/2 {
		below = run(own-lowest, func(i int) int { return own - 1 - i })
	}
	switch {
	case above == 0 && below == 0:
		return 0, 0, false
	case above >= below:
		return uint16(from), uint16(from + above - 1), true
	}
	return uint16(own - below), uint16(own - 1), true
}

// flush deletes what has gathered.
func (r *reconciler) flush() {
	if len(r.batch) > 0 {
		_, err := r.deletes.DeleteAll(r.batch)
		r.failed = cmp.Or(r.failed, err)
	}
	if len(r.divert) > 0 {
		_, err := r.deletes.Divert(r.divert)
		r.failed = cmp.Or(r.failed, err)
	}
	r.batch, r.divert = r.batch[:0], r.divert[:0]
}

// carriesSession says whether a flow is the session: it ends at the server's
// socket, wherever it was first sent to. Where conntrack has come to know it in
// its middle, either end may have opened it.
func carriesSession(s *compile.Session, f *conntrack.Flow) bool {
	if s == nil || f.Protocol != conntrack.ProtocolTCP {
		return false
	}
	client, server := s.Client.Addr().WithZone(""), s.Server.Addr().WithZone("")
	for _, t := range []conntrack.Tuple{reversed(f.Reply), f.Original, f.Reply, reversed(f.Original)} {
		if t.Source == client && t.SourcePort == s.Client.Port() && t.Destination == server && t.DestinationPort == s.Server.Port() {
			return true
		}
	}
	return false
}
