package flows

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// rank is how well a walk explains a flow.
type rank int

const (
	unlike    rank = iota // the rules would make something else of it
	foreign               // they let it pass, and another table translated it
	explained             // they make of it what it is
)

// assess compares what the rules made of a packet with what it became.
func (j *Judge) assess(out *Judgement, p *explain.Packet, r *explain.Result) rank {
	*out = Judgement{}
	out.From, out.To, out.Foreign = Gateway, j.zoneTo(p, r), r.DNAT.Foreign || r.SNAT.Foreign
	if p.In != "" {
		out.From = j.zones.Of(p.In, p.Source)
	}
	d, s := &r.DNAT, &r.SNAT
	known := p.Became.Destination.IsValid()
	dnat := known && (p.Became.Destination != p.Destination || p.Became.DestinationPort != p.DestinationPort)
	snat := known && (p.Became.Source != p.Source || p.Became.SourcePort != p.SourcePort)
	doesD, doesS := d.Kind != ruleset.Continue, s.Kind != ruleset.Continue
	ourD := doesD && d.Allowed
	ourS := doesS && s.Allowed && !(d.Foreign && opened(s.Origin))
	out.Ours = ourD && (dnat || !known) || ourS && (snat || !known)
	var origin *ruleset.Origin
	switch {
	case ourD && isEntry(d.Origin):
		origin = d.Origin
	case ourS && isEntry(s.Origin):
		origin = s.Origin
	}
	if origin != nil {
		out.Origin = *origin
	}
	by, why := r.By, ""
	switch {
	case doesD && !ourD && !dnat:
		by, why = d.Origin, Missing
	case doesD && !ourD:
		by, why = d.Origin, wouldGo+ends(d.Address, d.Port)
	case r.Unrouted:
	case r.Verdict == ruleset.Drop:
		why = Dropped
	case r.Verdict == ruleset.Reject:
		why = Rejected
	case doesS && !s.Allowed && !snat:
		by, why = s.Origin, Missing
	case doesS && !s.Allowed && s.Address == p.Became.Source:
		by, why = s.Origin, wouldLeave+ends(s.Address, s.Port)
	case doesS && !s.Allowed:
		by, why = s.Origin, wouldLeave+ends(s.Address, 0)
	case ourD && s.Foreign:
		by, why = d.Origin, Bare
	case d.Foreign && opened(r.By):
		why = Bare
	}
	switch {
	case why != "":
		out.Why = why
		if by != nil {
			out.Wants = *by
		}
		return unlike
	case out.Foreign:
		out.Fits, out.Why = true, Bare
		return foreign
	}
	out.Fits = true
	if out.Origin.Entry == "" && !ourD && !ourS && isEntry(r.By) {
		out.Origin = *r.By
	}
	also(out, r, origin, ourS)
	return explained
}

// also notes the entries that a flow went through besides the one that it is
// of, whose origin is given where it translated the flow.
func also(judgement *Judgement, r *explain.Result, origin *ruleset.Origin, ourS bool) {
	if ourS && r.SNAT.Origin != origin && isEntry(r.SNAT.Origin) && *r.SNAT.Origin != judgement.Origin {
		judgement.Also[0] = *r.SNAT.Origin
	}
	if r.By != origin && isEntry(r.By) && *r.By != judgement.Origin && *r.By != judgement.Also[0] {
		judgement.Also[1] = *r.By
	}
}

// zoneTo is the zone that a packet went to.
func (j *Judge) zoneTo(p *explain.Packet, r *explain.Result) string {
	to := p.Became.Destination
	switch {
	case !to.IsValid():
		if r.Local {
			return Gateway
		}
		to = p.Destination
		if r.DNAT.Kind != ruleset.Continue {
			to = r.DNAT.Address
		}
		return j.zones.Of(r.Out, to)
	case p.Out != "" && !(p.In != "" && j.host.shared(to)):
		return j.zones.Of(p.Out, to)
	}
	return j.towards(to)
}

// ends writes an address and, where it counts, a port.
func ends(a netip.Addr, port uint16) string {
	switch {
	case !a.IsValid():
		return "another address"
	case port == 0:
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// opened says whether a packet passed by a path that is only open to what our
// own entries translated. What has that path and was not translated by them, as
// it comes from a source that they do not take, is a flow of an earlier policy.
func opened(by *ruleset.Origin) bool {
	return by != nil && (by.Entry == "port_forward" || by.Entry == "one_to_one")
}

// isEntry says whether an origin is an entry of the policy, and not what all of
// them need.
func isEntry(o *ruleset.Origin) bool {
	if o == nil {
		return false
	}
	if o.Entry == "" {
		return false
	}
	section := ""
	switch o.Entry[0] {
	case 'm':
		section = "masquerade "
	case 's':
		section = "snat "
	case 'o':
		section = "one_to_one "
	case 'p':
		section = "port_forward "
	case 'r':
		section = "redirect "
	case 'f':
		section = "forward "
	case 'i':
		section = "input "
	}
	return section != "" && len(o.Entry) > len(section) && o.Entry[:len(section)] == section
}
