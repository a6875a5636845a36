package simulate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// noZone says which zones there are, and which is probably meant.
func (q *question) noZone(field, name string) error {
	var names []string
	for i := range q.policy.Zones {
		names = append(names, q.policy.Zones[i].Name)
	}
	slices.Sort(names)
	if field == "from" {
		names = append(names, flows.Gateway)
	}
	text := fmt.Sprintf("no zone %q in the policy", name)
	if near := policy.Nearest(name, names); near != "" {
		return &QuestionError{field, text + "; did you mean " + near + "? there are " + strings.Join(names, ", ")}
	}
	return &QuestionError{field, text + "; there are " + strings.Join(names, ", ")}
}

// askGateway is for what the host itself sends: it takes an address that it can
// send from.
func (q *question) askGateway() error {
	if q.Interface != "" {
		return &QuestionError{"interface", "what the gateway itself sends arrives by no interface"}
	}
	if !q.Source.IsValid() {
		out := ""
		if list := q.host.Way(q.Destination); len(list) > 0 {
			out = list[0]
		}
		q.Source = q.host.Address(out, q.Destination)
		if q.host.Kind(q.Destination) == ruleset.RTNLocal {
			q.Source = q.Destination
		}
		if !q.Source.IsValid() {
			return &QuestionError{"source", "the gateway has no address to send from to " + q.Destination.String() + "; give the packet a source"}
		}
		return nil
	}
	if q.host.Kind(q.Source) != ruleset.RTNLocal {
		q.note("%s is not one of the gateway's addresses", q.Source)
	}
	return nil
}

// askFrom finds out where a packet comes from whose zone was not told.
func (q *question) askFrom() error {
	if q.Interface == "" {
		if q.host.Kind(q.Source) == ruleset.RTNLocal {
			q.From = flows.Gateway
			return nil
		}
		ways := q.host.Way(q.Source)
		if len(ways) == 0 {
			return &QuestionError{"from", "no route leads back to " + q.Source.String() + ", so that it is not known where it comes from; give the zone, or the interface"}
		}
		q.Interface = ways[0]
	}
	q.From = q.zones.Of(q.Interface, q.Source)
	if _, ok := q.facts.Link(q.Interface); !ok {
		q.note("the host has no interface %s now", q.Interface)
	}
	return nil
}

// askInterface finds the interface that a packet from a zone arrives by.
func (q *question) askInterface() error {
	z := q.policy.Zone(q.From)
	switch {
	case q.Interface == "":
		q.Interface = q.arrives(z, q.Source)
		if q.Interface == "" {
			return &QuestionError{"from", fmt.Sprintf("zone %s names no interface, and the host has none that would be its; give the interface", z.Name)}
		}
	case !on(z, q.Interface):
		return &QuestionError{"interface", fmt.Sprintf("%s is not an interface of zone %s; it has %s", q.Interface, z.Name, interfacesText(z))}
	}
	if _, ok := q.facts.Link(q.Interface); !ok {
		q.note("the host has no interface %s now: it is taken to be there", q.Interface)
	}
	if got := q.zones.Of(q.Interface, q.Source); got == "" {
		q.note("%s on %s is in no zone: zone %s has %s; what comes from no zone is not judged by its rules", q.Source, q.Interface, z.Name, networksText(z))
	} else if got != z.Name {
		q.note("%s on %s is in zone %s, not in %s", q.Source, q.Interface, got, z.Name)
	}
	return nil
}

// arrives gives the interface of a zone that leads back to a source: first what
// the routes say, then a link of the host's, then what the zone names. An
// interface on which the source would be of another zone is the last choice.
func (g *Gateway) arrives(z *policy.Zone, source netip.Addr) string {
	list := g.interfaces(z, g.host.Leaves(source))
	for _, name := range list {
		if g.zones.Of(name, source) == z.Name {
			return name
		}
	}
	if len(list) > 0 {
		return list[0]
	}
	return ""
}

// interfaces are those of a zone that there can be, the likeliest first: those
// that lead somewhere, other links of the host, and names that the policy tells.
// A wildcard is no name, so one that it covers is made up.
func (g *Gateway) interfaces(z *policy.Zone, leads []string) []string {
	var list []string
	add := func(name string) {
		if on(z, name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, name := range leads {
		add(name)
	}
	for _, up := range []bool{true, false} {
		for _, l := range g.facts.Links {
			if l.Up == up && l.Name != loopback {
				add(l.Name)
			}
		}
	}
	for _, i := range z.Interfaces {
		if i.Wildcard {
			add(i.Name + "0")
		} else {
			add(i.Name)
		}
	}
	return list
}

const loopback = "lo"

// on says whether a zone has an interface.
func on(z *policy.Zone, name string) bool {
	return len(z.Interfaces) == 0 || slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(name) })
}

func interfacesText(z *policy.Zone) string {
	if len(z.Interfaces) == 0 {
		return "any interface"
	}
	var names []string
	for _, i := range z.Interfaces {
		names = append(names, i.String())
	}
	return strings.Join(names, ", ")
}

func networksText(z *policy.Zone) string {
	if len(z.Networks) == 0 {
		return "any network"
	}
	var list []string
	for _, a := range z.Networks {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// leave decides which interface the packet leaves by, where it was said to leave
// to a zone or no route leads on.
func (q *question) leave(p *explain.Packet, r *explain.Result) {
	to := q.Destination
	if r.DNAT.Kind != ruleset.Continue {
		to = r.DNAT.Address
	}
	if q.To == "" {
		uplink := q.uplink()
		if _, there := q.facts.Link(uplink); r.Unrouted && uplink != "" && !there {
			p.Out = uplink
			q.note("no route leads to %s: it is taken to leave by the only uplink, %s, which the host does not have now", to, uplink)
		}
		return
	}
	routed := q.host.Way(to)
	z := q.policy.Zone(q.To)
	list := q.interfaces(z, routed)
	i := slices.IndexFunc(list, func(name string) bool { return q.zones.Of(name, to) == q.To })
	switch {
	case len(list) == 0:
		q.note("zone %s names no interface: the packet leaves by the host's route", z.Name)
		return
	case i < 0:
		q.note("%s is not in zone %s", to, q.To)
		i = 0
	}
	p.Out = list[i]
	switch {
	case slices.Contains(routed, p.Out):
	case len(routed) == 0:
		q.note("no route leads to %s: it is taken to leave by %s", to, p.Out)
	default:
		q.note("the host's route to %s leads out of %s: it is taken to leave by %s, as zone %s asks for", to, routed[0], p.Out, z.Name)
	}
}

// uplink is the interface of the only zone that translating entries lead to, and
// "" where there are several.
func (q *question) uplink() string {
	var zones []*policy.Zone
	add := func(refs []policy.ZoneRef) {
		for _, ref := range refs {
			if z := q.policy.Zone(ref.Name); z != nil && !slices.Contains(zones, z) {
				zones = append(zones, z)
			}
		}
	}
	for i := range q.policy.Masquerade {
		add(q.policy.Masquerade[i].To)
	}
	for i := range q.policy.SNAT {
		add(q.policy.SNAT[i].To)
	}
	if len(zones) != 1 || len(zones[0].Interfaces) != 1 {
		return ""
	}
	return q.interfaces(zones[0], nil)[0]
}

func (q *question) note(format string, args ...any) {
	q.notes = append(q.notes, fmt.Sprintf(format, args...))
}
