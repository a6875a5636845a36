package doctor

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// passage is a packet that an entry of the policy is there for, as an example of
// all that are like it: what the entry leaves open is chosen.
type passage struct {
	entry string // as "port_forward web"
	place policy.Place
	out   *simulate.Outcome
	// The ends that were chosen where the entry and its zones say nothing.
	anySource, anyDestination, anyPort bool
	here                               bool   // it is sent to an address of the host's
	sourcePort                         uint16 // where that is known
}

// mostPassages is of one entry, and of a policy.
const (
	mostOfEntry  = 16
	mostPassages = 1000
)

// passages are examples of what the policy has to do with. It is made once.
func (h *Host) passages() []passage {
	if h.examples != nil || h.gateway() == nil {
		return h.examples
	}
	w := &ways{host: h}
	p := h.Policy
	for i := range p.SNAT {
		w.translated("snat", &p.SNAT[i].Masquerade)
	}
	for i := range p.Masquerade {
		w.translated("masquerade", &p.Masquerade[i])
	}
	for i := range p.Forward.Rules {
		if r := &p.Forward.Rules[i]; r.Action == policy.Accept {
			w.between(example{entry: "forward " + r.Name, place: r.Place, from: r.From, to: r.To, sources: r.Sources, destinations: r.Destinations, protocols: r.Protocols, ports: r.Ports, family: r.Family})
		}
	}
	if p.Forward.Default == policy.Accept {
		w.between(example{entry: "forward default", place: p.Forward.Place})
	}
	if p.Input != nil {
		for i := range p.Input.Rules {
			if r := &p.Input.Rules[i]; r.Action == policy.Accept && len(r.Ports) > 0 {
				w.between(example{entry: "input " + r.Name, place: r.Place, from: r.From, toGateway: true, sources: r.Sources, destinations: r.Destinations, protocols: r.Protocols, ports: r.Ports, family: r.Family})
			}
		}
	}
	for i := range p.PortForward {
		w.portForward(&p.PortForward[i])
	}
	for i := range p.OneToOne {
		w.oneToOne(&p.OneToOne[i])
	}
	for i := range p.Redirect {
		r := &p.Redirect[i]
		w.between(example{leads: true, entry: "redirect " + r.Name, place: r.Place, from: r.From, sources: r.Sources, destinations: r.Destinations, protocols: r.Protocols, ports: r.Ports, family: r.Family})
	}
	h.examples = w.out
	if h.examples == nil {
		h.examples = []passage{}
	}
	return h.examples
}

// example is what an entry says of the packets that it is for.
type example struct {
	entry                 string
	place                 policy.Place
	from, to              []policy.ZoneRef // empty: any
	toGateway             bool             // to the address of the link that it arrives by
	leads                 bool             // it translates the destination
	sources, destinations []policy.Address
	protocols             []policy.Protocol
	ports                 []policy.Ports
	family                policy.Family
	count                 int
}

type ways struct {
	host *Host
	out  []passage
}

func (w *ways) translated(section string, m *policy.Masquerade) {
	if !m.NoForward {
		w.between(example{entry: section + " " + m.Name, place: m.Place, from: m.From, to: m.To, sources: m.Sources, destinations: m.Destinations, protocols: m.Protocols, ports: m.Ports, family: m.Family})
	}
}

func (w *ways) portForward(f *policy.PortForward) {
	if f.OfGateway() {
		return
	}
	e := example{entry: "port_forward " + f.Name, place: f.Place, from: f.From, toGateway: true, leads: true, sources: f.Sources, destinations: f.Address, protocols: f.Protocols, ports: f.Ports, family: f.Family}
	if f.Map == nil {
		w.between(e)
		return
	}
	for _, l := range f.Map.Lines[:min(len(f.Map.Lines), mostOfEntry)] {
		e.protocols, e.ports = []policy.Protocol{{Number: l.Protocol}}, []policy.Ports{{First: l.First, Last: l.Last}}
		w.between(e)
	}
}

func (w *ways) oneToOne(o *policy.OneToOne) {
	e := example{leads: true, entry: "one_to_one " + o.Name, place: o.Place, from: []policy.ZoneRef{o.Zone}, destinations: []policy.Address{{Low: o.Outside.Addr(), High: o.Outside.Addr()}}}
	if o.ExposeAll {
		w.between(e)
	}
	for _, s := range o.Expose {
		e.protocols, e.ports = []policy.Protocol{{Number: s.Protocol}}, s.Ports
		w.between(e)
	}
}

// between makes examples between the links of zones.
func (w *ways) between(e example) {
	for _, family := range []link.Family{link.IPv4, link.IPv6} {
		if e.family == policy.IPv4 && family == link.IPv6 || e.family == policy.IPv6 && family == link.IPv4 {
			continue
		}
		for _, from := range w.host.sides(e.from, family) {
			if e.toGateway {
				w.add(&e, from, side{address: w.host.ownAddress(from.link, family)})
				continue
			}
			for _, to := range w.host.sides(e.to, family) {
				if to.link != from.link {
					w.add(&e, from, to)
				}
			}
		}
	}
}

// add sends an example through the policy, and keeps what came of it.
func (w *ways) add(e *example, from, to side) {
	if e.count == mostOfEntry || len(w.out) == mostPassages {
		return
	}
	x := passage{entry: e.entry, place: e.place, anySource: !from.told, anyDestination: !to.told && !e.toGateway}
	source, told := w.host.firstOf(e.sources, from.address, &x.anySource)
	destination, told2 := w.host.firstOf(e.destinations, to.address, &x.anyDestination)
	if !told || !told2 || !source.IsValid() || !destination.IsValid() || source.Is4() != destination.Is4() {
		return
	}
	p := simulate.Packet{Interface: from.link, Source: source, Destination: destination, Protocol: policy.ProtocolTCP, To: to.zone}
	if len(e.protocols) > 0 {
		p.Protocol = e.protocols[0].Number
	}
	switch {
	case !simulate.HasPorts(p.Protocol):
	case len(e.ports) > 0:
		p.DestinationPort = e.ports[0].First
	default:
		p.DestinationPort, x.anyPort = 443, true
	}
	if len(e.destinations) > 0 {
		p.To = "" // its route says where it leaves
	}
	out, err := w.host.gateway().Send(p)
	if err != nil {
		return // the zones, and not the packet, are what is odd
	}
	if e.leads && out.DNAT.Kind == ruleset.Continue {
		return // it is not for that family, or not for that port
	}
	x.out, x.here = out, w.host.routes().Kind(destination) == link.KindLocal
	e.count++
	w.out = append(w.out, x)
}

// firstOf is an address that a list allows: fallback where it is empty. It is
// told by the list then.
func (h *Host) firstOf(list []policy.Address, fallback netip.Addr, any *bool) (netip.Addr, bool) {
	if len(list) == 0 {
		return fallback, fallback.IsValid()
	}
	for _, a := range list {
		switch {
		case a.Gateway:
			return fallback, true
		case a.Set != "":
			if s := h.Policy.Set(a.Set); s != nil {
				if found, ok := h.firstOf(s.Addresses, fallback, any); ok && found != fallback {
					return found, true
				}
			}
		case a.Low.IsValid() && a.Low.Is4() == fallback.Is4():
			*any = false
			if a.Low != a.High && h.routes().Kind(a.Low.Next()) == link.KindUnicast {
				return a.Low.Next(), true // the first of a network is nobody's
			}
			return a.Low, true
		}
	}
	return netip.Addr{}, false
}

// side is a link of a zone, and an address of somebody behind it; told where the
// policy says that such addresses are there.
type side struct {
	zone, link string
	address    netip.Addr
	told       bool
}

// sides are the links of zones where there is somebody of a family.
func (h *Host) sides(refs []policy.ZoneRef, family link.Family) (out []side) {
	for i := range h.Policy.Zones {
		z := &h.Policy.Zones[i]
		if len(refs) > 0 && !slices.ContainsFunc(refs, func(r policy.ZoneRef) bool { return r.Any || r.Name == z.Name }) {
			continue
		}
		for _, l := range h.facts().Links {
			on := slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) })
			if len(z.Interfaces) > 0 && !on || l.Name == "lo" {
				continue
			}
			if s := h.somebody(z, l, family); s.address.IsValid() {
				out = append(out, s)
			}
		}
	}
	return out
}

// somebody finds an address that is behind a link.
func (h *Host) somebody(z *policy.Zone, l link.Link, family link.Family) side {
	s := side{zone: z.Name, link: l.Name, told: len(z.Networks) > 0}
	leads := func(a netip.Addr) bool {
		return a.IsValid() && a.Is4() == (family == link.IPv4) && h.routes().Kind(a) == link.KindUnicast && slices.Contains(h.routes().Leaves(a), l.Name)
	}
	for _, n := range z.Networks {
		for a, left := n.Low, 20; left > 0 && a.IsValid() && a.Compare(n.High) <= 0; a, left = a.Next(), left-1 {
			if leads(a) && (a != n.Low || n.Low == n.High) {
				s.address = a
				return s
			}
		}
	}
	if len(z.Networks) > 0 {
		return s
	}
	for _, own := range l.Addresses {
		for a, left := own.Prefix.Masked().Addr().Next(), 20; left > 0 && own.Prefix.Contains(a); a, left = a.Next(), left-1 {
			if leads(a) && !a.IsLinkLocalUnicast() {
				s.address = a
				return s
			}
		}
	}
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{192, 88, 99, 2}), netip.MustParseAddr("2001:db8:ffff::2")} {
		if leads(a) {
			s.address = a // nobody, but it leads to the Internet
		}
	}
	return s
}

// ownAddress is the host's on a link.
func (h *Host) ownAddress(name string, family link.Family) netip.Addr {
	l, _ := h.facts().Link(name)
	for _, a := range l.Addresses {
		if a.Prefix.Addr().Is4() == (family == link.IPv4) && !a.Prefix.Addr().IsLinkLocalUnicast() {
			return a.Prefix.Addr()
		}
	}
	return netip.Addr{}
}

// passes says that our rules let it through.
func (x *passage) passes() bool {
	return x.out.Verdict == simulate.Forwarded || x.out.Verdict == simulate.Delivered
}

// at is the packet as rules of others see it at a hook: before or behind
// translation, or its answer.
func (x *passage) at(hook foreign.Hook, answer, behind bool) *foreign.Packet {
	o := x.out
	p := &foreign.Packet{IPv6: o.Arrived.Source.Is6(), Protocol: o.Packet.Protocol, ICMPType: o.Packet.ICMPType, State: foreign.StateNew,
		In: o.Packet.Interface, Out: o.Out, Source: o.Arrived.Source, SourcePort: x.sourcePort, Destination: o.Left.Destination, DestinationPort: o.Left.DestinationPort}
	if x.anySource {
		p.Source = netip.Addr{}
	}
	dnat := o.DNAT.Kind != ruleset.Continue
	if x.anyDestination && !dnat {
		p.Destination = netip.Addr{}
	}
	if x.anyPort {
		p.DestinationPort = 0
	}
	if dnat {
		p.Status |= foreign.StatusDNAT
	}
	snat := o.SNAT.Kind != ruleset.Continue
	if hook == foreign.Ingress || hook == foreign.Egress {
		return x.onLink(p, hook, answer)
	}
	if answer {
		p.In, p.Out = p.Out, p.In
		p.Source, p.Destination = p.Destination, p.Source
		p.SourcePort, p.DestinationPort = p.DestinationPort, p.SourcePort
		p.State, p.Status = foreign.StateEstablished, p.Status|foreign.StatusSeenReply|foreign.StatusConfirmed
		if snat {
			p.Status |= foreign.StatusSNAT
		}
		return p
	}
	if hook == foreign.Forward || hook == foreign.Postrouting {
		p.Mark = o.Mark // as our own rules have set it by then
	}
	switch hook {
	case foreign.Prerouting:
		p.Out = ""
		if !behind {
			p.Status = 0
			if dnat {
				p.Destination, p.DestinationPort = o.Arrived.Destination, o.Arrived.DestinationPort
			}
			p.DestinationLocal = x.here
		}
	case foreign.Input:
		p.Out, p.DestinationLocal = "", true
		p.Destination = o.Left.Destination
	case foreign.Postrouting:
		if behind && snat {
			p.Source, p.Status = o.Left.Source, p.Status|foreign.StatusSNAT
		}
	}
	return p
}

// onLink is the packet, or its answer, as it is on the link that it comes by
// (ingress) or leaves by (egress): conntrack knows nothing of it there, and is
// long past it.
func (x *passage) onLink(p *foreign.Packet, hook foreign.Hook, answer bool) *foreign.Packet {
	o := x.out
	translated := o.SNAT.Kind != ruleset.Continue
	outside := hook == foreign.Egress // the end that the gateway has to the outside
	p.State, p.Status = 0, 0
	if answer {
		p.In, p.Out = p.Out, p.In
		outside = !outside
	}
	if outside {
		if translated {
			p.Source, p.SourcePort = o.Left.Source, 0 // the kernel chooses
		}
	} else if o.DNAT.Kind != ruleset.Continue {
		p.Destination, p.DestinationPort = o.Arrived.Destination, o.Arrived.DestinationPort
	}
	if answer {
		p.Source, p.Destination = p.Destination, p.Source
		p.SourcePort, p.DestinationPort = p.DestinationPort, p.SourcePort
		if p.Protocol == 1 || p.Protocol == 58 {
			p.ICMPType = echoReply(p.Protocol)
		}
	}
	if hook == foreign.Ingress {
		p.Out = ""
	} else {
		p.In = ""
	}
	return p
}

func echoReply(protocol uint8) uint8 {
	if protocol == 58 {
		return 129
	}
	return 0
}
