package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// targetUnrouted is about targets that the host has no route to.
func targetUnrouted(h *Host) (out []Finding) {
	if h.routes() == nil {
		return nil
	}
	for _, t := range h.hosts() {
		why, unrouted := h.unrouted(t.address)
		r, refused := h.refusing(t.address)
		if refused && h.astray(r, t.address) || unrouted && h.mainLost(familyOf(t.address)) != nil || t.address.Is6() && h.lacksIPv6() {
			continue // that is the reason
		}
		if refused {
			why = fmt.Sprintf("routes: none leads to %s, and %s decides for it", t.address, r)
		}
		if !unrouted {
			if f := h.targetOutside(&t); f != nil {
				out = append(out, *f)
			}
			continue
		}
		out = append(out, Finding{
			Severity: Broken, Weight: 748,
			Title:    fmt.Sprintf("the host has no route to %s, where %s leads", t.address, t.entry),
			Evidence: []string{fmt.Sprintf("policy %s: %s leads to %s", t.place, t.entry, t.address), why},
			Mend:     []string{fmt.Sprintf("# give the host a route (ip route add %s via ROUTER), or write the right target at %s, and apply", prefixOf(t.address), t.place)},
		})
	}
	return merged(out, 5)
}

// targetOutside is about a target that the host sends back out of an uplink.
func (h *Host) targetOutside(t *target) *Finding {
	via := h.routes().Leaves(t.address)
	if len(via) == 0 || !t.address.IsPrivate() || h.routes().Kind(t.address) == link.KindLocal {
		return nil // there are public servers to lead to
	}
	for _, z := range h.uplinkZones() {
		if !slices.ContainsFunc(h.linksOf(z), func(l link.Link) bool {
			return l.Name == via[0] && !slices.ContainsFunc(l.Addresses, func(a link.Address) bool { return a.Prefix.Contains(t.address) })
		}) {
			continue
		}
		return &Finding{
			Severity: Broken, Weight: 747,
			Title:    fmt.Sprintf("the host sends what is for %s, where %s leads, out by the uplink %s", t.address, t.entry, via[0]),
			Evidence: []string{fmt.Sprintf("policy %s: %s leads to %s", t.place, t.entry, t.address), fmt.Sprintf("route: %s leaves by %s of zone %s", t.address, via[0], z.Name)},
			Mend:     []string{fmt.Sprintf("# write the right target at %s, and apply; or, if a router inside leads there: ip route add %s via ROUTER", t.place, prefixOf(t.address))},
		}
	}
	return nil
}

// merged keeps the first of findings of one kind, with what was seen of some
// others.
func merged(list []Finding, most int) []Finding {
	if len(list) < 2 {
		return list
	}
	f := list[0]
	for i, more := range list[1:] {
		if i+1 == most {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and %d more like it", len(list)-most))
			break
		}
		f.Evidence = append(f.Evidence, more.Evidence...)
		for _, m := range more.Mend {
			if !slices.Contains(f.Mend, m) {
				f.Mend = append(f.Mend, m)
			}
		}
	}
	return []Finding{f}
}

func prefixOf(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// gatewaySilent is about next hops of default routes that do not answer.
func gatewaySilent(h *Host) (out []Finding) {
	for _, d := range h.facts().Defaults {
		if !d.Gateway.IsValid() {
			continue
		}
		n := h.neighbor(d.Gateway)
		if n == nil || n.Interface != d.Interface || !n.State.Silent() {
			continue
		}
		out = append(out, Finding{
			Severity: Broken, Weight: 779,
			Title:    fmt.Sprintf("the next hop %s of the default route does not answer on %s", d.Gateway, d.Interface),
			Evidence: []string{fmt.Sprintf("routes: %s default via %s dev %s", d.Family, d.Gateway, d.Interface), neighborText(n)},
			Mend: []string{fmt.Sprintf("# see whether it is there: ping %s; look at the cable, the VLAN, and whether the address of %s is of its network", d.Gateway, d.Interface),
				"# the provider's modem may have to be restarted, where another machine was there before"},
		})
	}
	return out
}

// targetSilent is about targets next to the gateway that do not answer ARP, or
// IPv6's neighbour discovery.
func targetSilent(h *Host) (out []Finding) {
	for _, t := range h.hosts() {
		n := h.neighbor(t.address)
		if n == nil || !n.State.Silent() {
			continue
		}
		what := "ARP"
		if t.address.Is6() {
			what = "neighbour discovery"
		}
		out = append(out, Finding{
			Severity: Broken, Weight: 746,
			Title:    fmt.Sprintf("%s, where %s leads, does not answer: it is off, or has another address", t.address, t.entry),
			Evidence: []string{fmt.Sprintf("policy %s: %s leads to %s", t.place, t.entry, t.address), neighborText(n) + ": nobody answers " + what},
			Mend:     []string{fmt.Sprintf("# turn it on, or write the address that it has now at %s, and apply; a fixed lease of DHCP keeps it", t.place)},
		})
	}
	return merged(out, 5)
}

// targetRefuses is about targets on which nothing listens.
func targetRefuses(h *Host) (out []Finding) {
	for _, t := range h.targets() {
		to := netip.AddrPortFrom(t.address, t.port)
		p, asked := h.Flows.Probes[to]
		if !asked || p == ProbeOpen || t.protocol != conntrack.ProtocolTCP {
			continue
		}
		if n := h.neighbor(t.address); p != ProbeRefused && n != nil && n.State.Silent() {
			continue // targetSilent says more
		}
		f := Finding{
			Severity: Broken, Weight: 742,
			Title:    fmt.Sprintf("nothing listens at %s, where %s leads", to, t.entry),
			Evidence: []string{fmt.Sprintf("policy %s: %s leads to %s", t.place, t.entry, to), fmt.Sprintf("probe: a connection of the gateway's own to %s %s", to, p)},
			Mend:     []string{fmt.Sprintf("# start the service there (ss -ltn shows what listens, and on which addresses), or write its port at %s, and apply", t.place)},
		}
		if p != ProbeRefused {
			f.Title = fmt.Sprintf("%s, where %s leads, does not answer the gateway either", to, t.entry)
			f.Mend = []string{"# look at that host's own firewall, and at whether it is there"}
		}
		out = append(out, f)
	}
	return merged(out, 5)
}

// waits says that the first packets of a connection were sent more than once, or
// two seconds ago: it is not one that is just being opened.
func (s *Seen) waits() bool {
	const after = 2 * time.Second
	return s.Protocol == conntrack.ProtocolTCP && s.State == conntrack.TCPSynSent && s.Status&conntrack.StatusSeenReply == 0 &&
		(s.Counted && s.Sent.Packets > 1 || s.Timeout < synSent-after)
}

// synSent is how long the kernel keeps a connection that nobody answers.
const synSent = 120 * time.Second

// waitingTarget is a target that gets connections, and has answered none.
type waitingTarget struct {
	address      netip.Addr
	flows        []string
	entry, place string
	answered     bool
}

func (h *Host) waitingTargets() []*waitingTarget {
	byTarget := map[netip.Addr]*waitingTarget{}
	var order []*waitingTarget
	for i := range h.Flows.Seen {
		s := &h.Flows.Seen[i]
		if !s.DNAT() || !s.Ours || s.Protocol != conntrack.ProtocolTCP || h.onOneLink(s) {
			continue
		}
		a := s.Reply.Source
		x := byTarget[a]
		if x == nil {
			x = &waitingTarget{address: a}
			byTarget[a] = x
			order = append(order, x)
		}
		if s.Status&conntrack.StatusSeenReply != 0 {
			x.answered = true
		} else if p, asked := h.Flows.Probes[netip.AddrPortFrom(a, s.Reply.SourcePort)]; asked && p != ProbeOpen {
			continue // targetRefuses says more
		} else if s.waits() {
			x.flows = append(x.flows, "conntrack: "+s.String()+" SYN_SENT [UNREPLIED]")
			x.entry, x.place = s.Origin.Entry, s.Origin.Place.String()
		}
	}
	return slices.DeleteFunc(order, func(x *waitingTarget) bool { return x.answered || len(x.flows) == 0 })
}

// targetElsewhere is about targets that get connections, and whose answers do not
// come back through the gateway.
func targetElsewhere(h *Host) (out []Finding) {
	for _, x := range h.waitingTargets() {
		a := x.address
		n := h.neighbor(a)
		if n != nil && (n.State.Silent() || n.State&link.NeighborPermanent != 0) {
			continue // that is the reason, or may be
		}
		f := Finding{
			Severity: Broken, Weight: 744,
			Title:    fmt.Sprintf("%s does not answer what %s leads to it, or its answers do not come back this way", a, x.entry),
			Evidence: shortened(x.flows, 4),
			Mend: []string{
				fmt.Sprintf("# on %s: have its default route lead to this gateway (ip route), and look at its own firewall", a),
				fmt.Sprintf("# or write masquerade: true in %s at %s, and apply: it then sees the gateway's address in place of the client's", x.entry, x.place),
			},
		}
		if h.Flows.Probes == nil {
			f.Mend = append(f.Mend, "# "+h.Place.command("ipmasq doctor --probe")+" tells which of the two it is")
		}
		if n != nil {
			f.Evidence = append(f.Evidence, neighborText(n)+": it is there")
		}
		for to, p := range h.Flows.Probes {
			if to.Addr() == a && p == ProbeOpen {
				f.Title = fmt.Sprintf("the answers of %s to what %s leads to it do not come back this way: its default route leads elsewhere", a, x.entry)
				f.Evidence = append(f.Evidence, fmt.Sprintf("probe: a connection of the gateway's own to %s %s", to, p))
				f.Mend = f.Mend[:2]
			}
		}
		out = append(out, f)
	}
	return out
}

// onOneLink says that client and target of a flow are behind the same link: what
// the target answers goes past the gateway.
func (h *Host) onOneLink(s *Seen) bool {
	if h.routes() == nil || s.SNAT() {
		return false
	}
	client, target := h.routes().Leaves(s.Original.Source), h.routes().Leaves(s.Reply.Source)
	return len(client) > 0 && len(target) > 0 && client[0] == target[0] && h.routes().Kind(s.Original.Source) != link.KindLocal
}

// hairpin is about inside hosts that reach a port forward by its outside address,
// or do not.
func hairpin(h *Host) (out []Finding) {
	for i := range h.Flows.Seen {
		s := &h.Flows.Seen[i]
		if s.Status&conntrack.StatusSeenReply != 0 {
			continue
		}
		if s.DNAT() && s.Ours && h.onOneLink(s) {
			out = append(out, Finding{
				Severity: Broken, Weight: 712,
				Title:    fmt.Sprintf("%s answers its neighbour %s directly, and %s has no part in it", s.Reply.Source, s.Original.Source, s.Origin.Entry),
				Evidence: []string{"conntrack: " + s.String() + " [UNREPLIED], without another source", fmt.Sprintf("routes: both are behind %s", h.routes().Leaves(s.Reply.Source)[0])},
				Mend:     []string{fmt.Sprintf("# let %s give hairpin its zone (hairpin: {zones: [%s]}) at %s, and apply", s.Origin.Entry, s.From, s.Origin.Place)},
			})
			continue
		}
		if s.DNAT() || s.SNAT() || s.To != "gateway" {
			continue
		}
		for j := range h.Policy.PortForward {
			f := &h.Policy.PortForward[j]
			if !forwardsPort(f, s.Protocol, s.Original.DestinationPort) || !h.ofUplink(s.Original.Destination, f) || fromZone(f, s.From) {
				continue
			}
			out = append(out, Finding{
				Severity: Broken, Weight: 711,
				Title:    fmt.Sprintf("%s asks for port_forward %s at its outside address, from inside, and gets the gateway itself", s.Original.Source, f.Name),
				Evidence: []string{"conntrack: " + s.String() + " [UNREPLIED], not translated", fmt.Sprintf("policy %s: port_forward %s has no hairpin for zone %s", f.Place, f.Name, s.From)},
				Mend:     []string{fmt.Sprintf("# take hairpin: false out of it, or write hairpin: {zones: [%s]}, at %s, and apply", s.From, f.Place)},
			})
		}
	}
	return merged(out, 4)
}
