package doctor

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// nowhere is how the compiler calls the interface of a default route that there
// is not (compile.Facts.Resolve): no link can have a slash in its name.
func nowhere(i policy.Interface) bool { return i.Name == "default/route" }

// absent lists the interfaces of a zone that no link is.
func (h *Host) absent(z *policy.Zone) (out []policy.Interface) {
	for _, i := range z.Interfaces {
		if h.Routes != nil && !h.matches(i) && !nowhere(i) {
			out = append(out, i)
		}
	}
	return out
}

// uplinkMissing is about uplinks that are not there.
func uplinkMissing(h *Host) (out []Finding) {
	for _, z := range h.uplinkZones() {
		for _, i := range h.absent(z) {
			f := Finding{
				Severity: Broken, Weight: 860,
				Title:    fmt.Sprintf("the uplink %s of zone %s does not exist", i, z.Name),
				Evidence: []string{fmt.Sprintf("policy %s: zone %s is on %s", i.Place, z.Name, i), h.linkNames()},
				Mend:     h.rename(i, true),
			}
			switch {
			case len(h.linksOf(z)) == 0: // no other one may do
			case i.Wildcard:
				f.Severity = Note
			default:
				f.Severity = Risk
			}
			out = append(out, f)
		}
	}
	return out
}

// zoneWithoutLink is the same for the other zones. Links of wildcards, as of
// virtual machines, come and go.
func zoneWithoutLink(h *Host) (out []Finding) {
	for _, z := range h.insideZones() {
		for _, i := range h.absent(z) {
			f := Finding{
				Severity: Broken, Weight: 840,
				Title:    fmt.Sprintf("no link is %s, so nothing is in zone %s by it", i, z.Name),
				Evidence: []string{fmt.Sprintf("policy %s: zone %s is on %s", i.Place, z.Name, i), h.linkNames()},
				Mend:     h.rename(i, false),
			}
			switch {
			case i.Wildcard:
				f.Severity = Note
			case len(h.linksOf(z)) > 0:
				f.Severity = Risk
			}
			out = append(out, f)
		}
	}
	return out
}

// portOfBridge is about zones that name a port of a bridge, or a part of a bond:
// packets arrive by the whole, and meet the rules as that.
func portOfBridge(h *Host) (out []Finding) {
	for _, z := range append(h.uplinkZones(), h.insideZones()...) {
		for _, l := range h.linksOf(z) {
			master, ok := h.facts().Link(l.Master)
			if !ok || master.Kind != "bridge" && master.Kind != "bond" && master.Kind != "team" {
				continue
			}
			named := func(i policy.Interface) bool { return i.Matches(l.Name) }
			i := z.Interfaces[slices.IndexFunc(z.Interfaces, named)]
			if i.Wildcard || slices.ContainsFunc(h.zoneLinks(), func(o link.Link) bool { return o.Name == master.Name }) {
				continue
			}
			out = append(out, Finding{
				Severity: Broken, Weight: 850,
				Title:    fmt.Sprintf("%s belongs to the %s %s, so packets of zone %s arrive by that, which no zone has", l.Name, master.Kind, master.Name, z.Name),
				Evidence: []string{fmt.Sprintf("link: the master of %s is %s", l.Name, master.Name), fmt.Sprintf("policy %s: zone %s is on %s", i.Place, z.Name, i)},
				Mend:     []string{fmt.Sprintf("# write %s instead of %s at %s, and apply", master.Name, l.Name, i.Place)},
			})
		}
	}
	return out
}

// linkDown is about links that were set down.
func linkDown(h *Host) (out []Finding) {
	uplinks := h.uplinkLinks()
	for _, l := range h.zoneLinks() {
		if l.Up {
			continue
		}
		f := Finding{
			Severity: Broken, Weight: 820,
			Title:    fmt.Sprintf("the link %s is down", l.Name),
			Evidence: []string{fmt.Sprintf("link: %s does not have the flag UP", l.Name)},
			Mend:     []string{"ip link set " + l.Name + " up", "# routes and IPv6 addresses that went with it come back with its configuration"},
		}
		if slices.ContainsFunc(uplinks, func(u link.Link) bool { return u.Name == l.Name }) {
			f.Title, f.Weight = fmt.Sprintf("the uplink %s is down", l.Name), 830
		}
		if h.replaced(l) {
			f.Severity = Risk
		}
		out = append(out, f)
	}
	return out
}

// noCarrier is about links that are up and have nobody at the other end. A
// bridge is like that as long as nothing runs on it.
func noCarrier(h *Host) (out []Finding) {
	uplinks := h.uplinkLinks()
	for _, l := range h.zoneLinks() {
		if !l.Up || l.Carrier || l.Kind == "bridge" {
			continue
		}
		f := Finding{
			Severity: Risk, Weight: 600,
			Title:    fmt.Sprintf("the link %s has no carrier: nobody is at its other end", l.Name),
			Evidence: []string{fmt.Sprintf("link: %s is UP and not LOWER_UP", l.Name)},
			Mend:     []string{"# look at the cable, the modem, or whatever is at the other end of " + l.Name},
		}
		if slices.ContainsFunc(uplinks, func(u link.Link) bool { return u.Name == l.Name }) {
			f.Severity, f.Weight, f.Title = Broken, 825, fmt.Sprintf("the uplink %s has no carrier: nobody is at its other end", l.Name)
		}
		if n := h.missed(l); n != nil {
			f.Severity, f.Weight = Broken, max(f.Weight, 750) // before target-silent, which it is the cause of
			f.Evidence = append(f.Evidence, neighborText(n)+": nobody can answer")
		} else if h.replaced(l) {
			f.Severity-- // a port that nothing is plugged into, or the other line
		}
		out = append(out, f)
	}
	return out
}

// missed is a target of a port forward that was asked for on a link in vain, or
// nil.
func (h *Host) missed(l link.Link) *link.Neighbor {
	for _, t := range h.hosts() {
		if n := h.neighbor(t.address); n != nil && n.Interface == l.Name && n.State.Silent() {
			return n
		}
	}
	return nil
}

// replaced says whether another link does what one would do: of uplinks another
// one that is ready, of a zone inside another link of the zone.
func (h *Host) replaced(l link.Link) bool {
	uplinks := h.uplinkLinks()
	others := uplinks
	if !slices.ContainsFunc(uplinks, func(u link.Link) bool { return u.Name == l.Name }) {
		others = nil
		for _, z := range h.insideZones() {
			if of := h.linksOf(z); slices.ContainsFunc(of, func(o link.Link) bool { return o.Name == l.Name }) {
				others = append(others, of...)
			}
		}
	}
	return slices.ContainsFunc(others, func(o link.Link) bool {
		return o.Name != l.Name && (ready(o, link.IPv4) || ready(o, link.IPv6))
	})
}

// smallMTU is about uplinks that carry less than the inside sends: where the
// errors that say so are lost on the way, connections hang.
func smallMTU(h *Host) (out []Finding) {
	if h.Policy == nil {
		return nil
	}
	inside := 0
	for _, z := range h.insideZones() {
		for _, l := range h.linksOf(z) {
			inside = max(inside, l.MTU)
		}
	}
	for _, z := range h.uplinkZones() {
		if z.MSSClamp.PathMTU || z.MSSClamp.Size > 0 {
			continue
		}
		for _, l := range h.linksOf(z) {
			if l.MTU >= inside {
				continue
			}
			out = append(out, Finding{
				Severity: Risk, Weight: 300,
				Title:    fmt.Sprintf("the uplink %s takes packets of %d bytes, the inside sends %d, and TCP is not told", l.Name, l.MTU, inside),
				Evidence: []string{fmt.Sprintf("link: the MTU of %s is %d", l.Name, l.MTU), fmt.Sprintf("policy %s: zone %s has no mss_clamp", z.Place, z.Name)},
				Mend:     []string{fmt.Sprintf("# write mss_clamp: pmtu in zone %s at %s, and apply", z.Name, z.Place)},
			})
		}
	}
	return out
}
