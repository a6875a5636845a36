package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// checkSynproxy refuses what cannot be had together with `synproxy`. The
// gateway answers before anything is translated, and opens the connection to
// the server itself.
func (c *compiler) checkSynproxy(x *filter) {
	if x == nil || !slices.ContainsFunc(x.Rules, func(r policy.Rule) bool { return r.Synproxy }) {
		return
	}
	entering := c.entering()
	for i := range x.Rules {
		r := &x.Rules[i]
		if !r.Synproxy {
			continue
		}
		entry := x.origin(r).Entry
		if r.Rate != nil {
			c.fail(r.Place, fmt.Sprintf("`rate` and `synproxy` of %s do not go together: above the rate nothing could answer the rest of a handshake; take one of the two out", entry))
		}
		if r.Mark != nil {
			c.fail(r.Mark.Place, fmt.Sprintf("`mark` and `synproxy` of %s do not go together: the gateway itself opens the connection to the server, and its packet has no mark; take one of the two out", entry))
		}
		from := x.conditions[i].from
		if at := slices.IndexFunc(from, func(z *zone) bool { return z.Symmetric != nil }); at >= 0 {
			c.fail(r.Place, fmt.Sprintf("%s would have the gateway answer for itself what comes in by zone %s, and that answer belongs to no flow that `symmetric` could tell it by: it would follow the default route; name other zones in `from`, or take one of the two out",
				entry, from[at].Name), policy.Note{Place: from[at].Symmetric.Place, Message: "zone " + from[at].Name + " is symmetric here"})
		}
		if x == c.rules {
			c.translatesProxied(r, entry, from)
		}
		for j := range entering {
			c.entersProxied(x, r, from, &entering[j])
		}
	}
}

// translatesProxied refuses a rule that would proxy what an entry gives a new
// source: the gateway's own SYN comes from no zone, and would leave with the
// client's address.
func (c *compiler) translatesProxied(r *policy.Rule, entry string, from []*zone) {
	to := c.towards(r.To)
	for _, t := range c.translators {
		if shareZone(from, t.from) && (to == nil || shareZone(to, t.to)) {
			var notes []policy.Note
			if at := policy.Place(t.origin.Place); at != (policy.Place{}) { // one_to_one entries are one translator
				notes = append(notes, policy.Note{Place: at, Message: t.origin.Entry + " is here"})
			}
			c.fail(r.Place, fmt.Sprintf("%s would have the gateway open connections that %s translates, with the client's own address; `synproxy` is for servers that clients reach at their own addresses: name other zones in `from` and `to`",
				entry, t.origin.Entry), notes...)
			return
		}
	}
}

func shareZone(a, b []*zone) bool {
	return slices.ContainsFunc(a, func(z *zone) bool { return slices.Contains(b, z) })
}

// enters is an entry that gives TCP a new destination.
type enters struct {
	entry   string
	place   policy.Place
	from    []*zone
	to      [2]spans
	gateway bool // it takes what is aimed at the gateway's own addresses
	ports   []policy.Ports
	leads   []netip.AddrPort // to where; port 0: the same
}

// entering lists these entries.
func (c *compiler) entering() (out []enters) {
	all := []policy.Ports{{First: 1, Last: 65535}}
	for i := range c.policy.PortForward {
		p := &c.policy.PortForward[i]
		e := enters{entry: "port_forward " + p.Name, place: p.Place, from: c.zones, ports: withoutPorts(p.Ports, p.ExceptPorts)}
		if p.Hairpin.Off {
			e.from = c.refs(p.From)
		}
		address := split(p.Address)
		e.gateway = !address.given || address.gateway
		for f := range e.to {
			if p.AnyAddress || address.given {
				e.to[f] = c.flat(&address, f)
			}
		}
		switch {
		case p.Map != nil:
			for _, l := range p.Map.Lines {
				if l.Protocol == policy.ProtocolTCP {
					e.ports = append(e.ports, policy.Ports{First: l.First, Last: l.Last})
					e.leads = append(e.leads, netip.AddrPortFrom(l.Addr, l.ToFirst))
				}
			}
		case !hasProtocol(p.Protocols, policy.ProtocolTCP):
			continue
		default:
			if p.AllPorts {
				e.ports = withoutPorts(all, p.ExceptPorts)
			}
			for _, to := range p.AllTargets() {
				e.leads = append(e.leads, netip.AddrPortFrom(to.Addr, to.First))
			}
		}
		out = append(out, e)
	}
	for i := range c.policy.Redirect {
		r := &c.policy.Redirect[i]
		if len(r.Protocols) > 0 && !hasProtocol(r.Protocols, policy.ProtocolTCP) {
			continue
		}
		e := enters{entry: "redirect " + r.Name, place: r.Place, from: c.refs(r.From), ports: r.Ports, gateway: true}
		destinations := split(r.Destinations)
		for f := range e.to {
			e.to[f] = c.flat(&destinations, f)
		}
		out = append(out, e)
	}
	for i := range c.policy.OneToOne {
		o := &c.policy.OneToOne[i]
		e := enters{entry: "one_to_one " + o.Name, place: o.Place, from: c.zones, gateway: true}
		for _, s := range o.Expose {
			if s.Protocol == policy.ProtocolTCP && len(s.Ports) == 0 {
				e.ports = all
			}
			if s.Protocol == policy.ProtocolTCP {
				e.ports = append(slices.Clone(e.ports), s.Ports...)
			}
		}
		if o.ExposeAll {
			e.ports = all
		}
		if len(e.ports) == 0 {
			continue
		}
		e.to[familyIndex(o.Outside.Addr())] = spans{spanOf(o.Outside)}
		e.leads = []netip.AddrPort{netip.AddrPortFrom(o.Inside.Addr(), 0)}
		out = append(out, e)
	}
	return out
}

// entersProxied refuses a rule that would answer in the place of what an entry
// gives a new destination, and warns of one that may be meant for flows that
// it never sees.
func (c *compiler) entersProxied(x *filter, r *policy.Rule, from []*zone, e *enters) {
	if !shareZone(from, e.from) {
		return
	}
	aimed := x == c.inputRules && e.gateway
	reached := c.reach(x, r)
	for f := range reached {
		aimed = aimed || (x == c.rules || !e.gateway) && reached[f].intersects(e.to[f])
	}
	entry, note := x.origin(r).Entry, policy.Note{Place: e.place, Message: e.entry + " is here"}
	if aimed && portsMeet(r.Ports, e.ports) {
		c.fail(r.Place, fmt.Sprintf("%s would have the gateway answer what %s gives a new destination, before it does; `synproxy` is for servers that clients reach at their own addresses: let `from`, `ports` or the addresses of the two differ",
			entry, e.entry), note)
		return
	}
	if x != c.rules {
		return
	}
	for _, to := range e.leads {
		leads := []policy.Ports{{First: to.Port(), Last: to.Port()}}
		if to.Port() == 0 {
			leads = e.ports
		}
		if reached[familyIndex(to.Addr())].intersects(spans{{to.Addr(), to.Addr()}}) && portsMeet(r.Ports, leads) {
			c.warning(r.Place, fmt.Sprintf("%s does not see what %s brings to %s: `synproxy` is for servers that clients reach at their own addresses", entry, e.entry, to.Addr()), note)
			return
		}
	}
}

// reach gives the destinations that a rule can match.
func (c *compiler) reach(x *filter, r *policy.Rule) (out [2]spans) {
	list, except := split(r.Destinations), split(r.ExceptDestinations)
	for f := range out {
		out[f] = c.flat(&list, f)
		if len(except.literal[f]) > 0 {
			out[f] = out[f].minus(except.literal[f])
		}
		if to := c.towards(r.To); to != nil && x == c.rules {
			var there spans
			for _, z := range to {
				there = append(there, z.left[f]...)
			}
			out[f] = out[f].and(merge(there))
		}
	}
	return out
}

// portsMeet says whether two lists have a port in common; an empty list is all.
func portsMeet(a, b []policy.Ports) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(p policy.Ports) bool {
		return slices.ContainsFunc(b, func(q policy.Ports) bool { return meet(p, q) })
	})
}
