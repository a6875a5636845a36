package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// mainLost finds a network of the main table that the host does not reach, since
// no rule leads to that table; nil where one does.
func (h *Host) mainLost(f link.Family) *link.Route {
	if h.Routes == nil || len(h.Routes.Selectors) == 0 ||
		slices.ContainsFunc(h.Routes.Selectors, func(s link.Selector) bool { return s.Family == f && s.Plain(link.MainTable) }) {
		return nil
	}
	connected := h.facts().Connected
	someone := func(r link.Route) netip.Addr {
		a := r.To.Addr().Next()
		for h.Routes.Local(a) && r.To.Contains(a.Next()) {
			a = a.Next()
		}
		return a
	}
	i := slices.IndexFunc(connected, func(r link.Route) bool {
		zone := slices.ContainsFunc(h.zoneLinks(), func(l link.Link) bool { return l.Name == r.Interface })
		return r.Family == f && zone && !r.To.IsSingleIP() && !r.To.Addr().IsLinkLocalUnicast() && len(h.Routes.Leaves(someone(r))) == 0
	})
	if i < 0 || h.source.Engine != nil && h.finds(someone(connected[i])) {
		return nil
	}
	return &connected[i]
}

// finds asks the kernel whether it has a way to an address: of IPv6 it looks at
// no rule at all until somebody adds one (fib6_has_custom_rules).
func (h *Host) finds(a netip.Addr) bool {
	return h.do(func() error {
		_, err := link.Way(a)
		return err
	}) == nil
}

// mainUnused is about the rule that leads to the main table: it is gone.
func mainUnused(h *Host) (out []Finding) {
	for _, f := range families() {
		lost := h.mainLost(f)
		if lost == nil {
			continue
		}
		x := Finding{
			Severity: Broken, Weight: 790,
			Title:    fmt.Sprintf("no rule of routing leads to the main table of %s, and its routes are of no use", f),
			Evidence: []string{fmt.Sprintf("routes: %s is in the main table, by %s, and is not found", lost.To, lost.Interface)},
			Mend:     []string{"ip " + dash6(f) + "rule add pref 32766 lookup main"},
		}
		for _, s := range h.Routes.Selectors {
			if s.Family == f {
				x.Evidence = append(x.Evidence, "rule "+s.String())
			}
		}
		x.Evidence = shortened(x.Evidence, 8)
		out = append(out, x)
	}
	return out
}

// refusing finds the route by which the host refuses to send anything to an
// address.
func (h *Host) refusing(a netip.Addr) (link.Refusal, bool) {
	if h.Routes == nil || len(h.Routes.Leaves(a)) > 0 || h.Routes.Kind(a) == link.KindLocal {
		return link.Refusal{}, false
	}
	return h.Routes.Refuses(a, func(table int) bool {
		return slices.ContainsFunc(h.Routes.Selectors, func(s link.Selector) bool { return s.Family == familyOf(a) && s.Plain(table) })
	})
}

// astray says that a route which refuses packets to an address stands before one
// that would lead there. A wide one is mostly there for what has no route.
func (h *Host) astray(r link.Refusal, a netip.Addr) bool {
	if !a.IsPrivate() && h.anyDefault(familyOf(a)) {
		return true
	}
	return r.To.IsSingleIP() || slices.ContainsFunc(h.facts().Connected, func(c link.Route) bool { return c.To.Contains(a) })
}

// noRoute is why the host sends nothing to an address.
func (h *Host) noRoute(a netip.Addr) Finding {
	if h.mainLost(familyOf(a)) != nil {
		for _, x := range mainUnused(h) {
			return x
		}
	}
	x := Finding{
		Title: fmt.Sprintf("the host has no route to %s", a), Evidence: []string{"routes: none leads to " + a.String()},
		Mend: []string{fmt.Sprintf("# make one: ip route add %s via ROUTER; or have the uplink's configuration give the default route", prefixOf(a))},
	}
	if r, refused := h.refusing(a); refused {
		if h.astray(r, a) {
			x.Title = fmt.Sprintf("a route refuses %s: %s", a, r)
		}
		x.Evidence = []string{fmt.Sprintf("routes: %s decides for %s", r, a)}
		x.Mend = append([]string{fmt.Sprintf("# if it is not meant: ip %sroute delete %s", dash6(r.Family), r)}, x.Mend...)
	}
	return x
}

// routeRefuses is about routes that refuse what the policy is there for:
// blackhole, unreachable and prohibit.
func routeRefuses(h *Host) (out []Finding) {
	if h.Routes == nil || len(h.Routes.Refusals) == 0 || h.Policy == nil {
		return nil
	}
	add := func(severity Severity, a netip.Addr, what string, evidence ...string) {
		r, refused := h.refusing(a)
		if !refused {
			return
		}
		out = append(out, Finding{
			Severity: severity, Weight: 778,
			Title:    fmt.Sprintf("a route refuses %s: %s", what, r),
			Evidence: append(evidence, fmt.Sprintf("routes: %s decides for %s", r, a)),
			Mend:     []string{"# if it is not meant:", "ip " + dash6(r.Family) + "route delete " + r.String()},
		})
	}
	for _, t := range h.hosts() {
		if r, refused := h.refusing(t.address); refused && !h.astray(r, t.address) {
			continue // targetUnrouted says so
		}
		add(Broken, t.address, "what "+t.entry+" leads to "+t.address.String(), fmt.Sprintf("policy %s: %s leads to %s", t.place, t.entry, t.address))
	}
	for _, f := range families() {
		if len(h.outward()) > 0 && h.needsUplink(f) && h.anyDefault(f) {
			for _, a := range internet(f) {
				add(Broken, a, "what goes to the Internet by "+f.String())
			}
		}
	}
	for _, c := range h.facts().Connected {
		if !slices.ContainsFunc(h.zoneLinks(), func(l link.Link) bool { return l.Name == c.Interface }) {
			continue
		}
		for _, r := range h.Routes.Refusals { // single hosts are shut out so by those who mean it
			if r.To.Bits() >= c.To.Bits() && c.To.Overlaps(r.To) && !r.To.IsSingleIP() {
				add(Risk, r.To.Addr().Next(), fmt.Sprintf("what is for %s on %s", r.To, c.Interface), fmt.Sprintf("routes: %s is on %s", c.To, c.Interface))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return merged(out, 5)
}

func familyOf(a netip.Addr) link.Family {
	if a.Is4() {
		return link.IPv4
	}
	return link.IPv6
}
