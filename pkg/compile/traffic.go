package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// condition is when an entry applies to a packet that comes from one of its
// zones. It is compiled once and used in every place that asks it, so that what
// is translated, let pass and guarded is the same.
type condition struct {
	when []alternative
	from []*zone
}

// families are those in which a packet can meet a condition.
func (c *condition) families() (out [2]bool) {
	from := zoneFamilies(c.from)
	for f := range out {
		out[f] = from[f] && slices.ContainsFunc(c.when, func(a alternative) bool { return a.family.allows(f) })
	}
	return out
}

// traffic is what an entry says about a packet's ends.
type traffic struct {
	family             policy.Family
	from               []*zone
	to                 []policy.ZoneRef
	sources            []policy.Address
	exceptSources      []policy.Address
	destinations       []policy.Address
	exceptDestinations []policy.Address
}

// matching finds the families in which a packet can match an entry, and
// refuses one that no packet can match. What only an empty set keeps from
// matching is a warning: it may be filled tomorrow.
func (c *compiler) matching(t *traffic, when []alternative, entry string, at policy.Place) (out [2]bool) {
	from := zoneFamilies(t.from)
	sources := c.reachable(t.sources, t.exceptSources, t.from)
	destinations := c.reachable(t.destinations, t.exceptDestinations, c.towards(t.to))
	any := false
	for f := range out {
		written := narrowed(0)
		if x := family(t.family); len(x) > 0 {
			written = x[0].family
		}
		possible := false
		for _, a := range when {
			possible = possible || a.family.allows(f)
		}
		out[f] = possible && from[f] && written.allows(f) && sources[f] && destinations[f]
		any = any || out[f]
	}
	if any {
		return out
	}
	if name := c.emptySetOf(t); name != "" {
		c.warning(at, fmt.Sprintf("%s matches nothing as long as the set @%s is empty", entry, name))
		return out
	}
	c.fail(t.blamed(at, sources, destinations), fmt.Sprintf("%s can match nothing: %s", entry, c.reason(t, from, sources, destinations)))
	return out
}

// blamed is the place of the list that keeps everything from matching, or of
// the entry where it is not one list alone.
func (t *traffic) blamed(at policy.Place, sources, destinations [2]bool) policy.Place {
	list := t.sources
	if sources != [2]bool{} {
		list = t.destinations
	}
	if len(t.from) == 0 || len(list) == 0 || sources != [2]bool{} && destinations != [2]bool{} {
		return at
	}
	return list[0].Place
}

// towards gives the zones that an entry's packets go to, or nil for any
// destination.
func (c *compiler) towards(to []policy.ZoneRef) []*zone {
	if len(to) == 0 || to[0].Any {
		return nil
	}
	return c.refs(to)
}

// reachable says in which families an address list has, without the
// exceptions, an address of one of the zones; nil is any zone.
func (c *compiler) reachable(list, except []policy.Address, zones []*zone) (out [2]bool) {
	a, x := split(list), split(except)
	for f := range out {
		if a.gateway {
			out[f] = true
			continue
		}
		have := c.flat(&a, f)
		if len(x.literal[f]) > 0 {
			have = have.minus(x.literal[f])
		}
		out[f] = zones == nil && len(have) > 0
		for _, z := range zones {
			out[f] = out[f] || z.left[f].intersects(have)
		}
	}
	return out
}

func (c *compiler) emptySetOf(t *traffic) string {
	lists := [][]policy.Address{t.sources, t.destinations}
	for _, z := range append(c.towards(t.to), t.from...) {
		lists = append(lists, z.Networks)
	}
	return c.emptySet(lists...)
}

// reason says why no packet can match, as far as one condition can be blamed,
// and what to do about it.
func (c *compiler) reason(t *traffic, from, sources, destinations [2]bool) string {
	none := [2]bool{}
	switch {
	case len(t.from) == 0:
		return "no zone is declared that a packet could come from; declare one under `zones`"
	case c.reachable(t.sources, t.exceptSources, nil) == none:
		return "its `except_sources` leave nothing of its `sources`; let them differ, or take the entry out"
	case c.reachable(t.destinations, t.exceptDestinations, nil) == none:
		return "its `except_destinations` leave nothing of its `destinations`; let them differ, or take the entry out"
	case sources == none:
		return fmt.Sprintf("no address is left in its `sources` that is in %s; correct `sources` or `except_sources`, or name another zone in `from`", zoneList(t.from))
	case destinations == none:
		return fmt.Sprintf("no address is left in its `destinations` that is in %s; correct `destinations` or `except_destinations`, or name another zone in `to`", zoneList(c.towards(t.to)))
	}
	parts := []string{"packets from " + zoneList(t.from) + " are " + familyWords(from)}
	if t.family != policy.AnyFamily {
		parts = append(parts, "`family` is "+t.family.String())
	}
	if sources != [2]bool{true, true} && sources != from {
		parts = append(parts, "the sources are "+familyWords(sources))
	}
	switch to := c.towards(t.to); {
	case destinations == [2]bool{true, true}:
	case len(to) > 0 && len(t.destinations) == 0:
		parts = append(parts, "packets to "+zoneList(to)+" are "+familyWords(destinations))
	default:
		parts = append(parts, "the destinations are "+familyWords(destinations))
	}
	if len(parts) == 1 {
		parts = append(parts, "what else the entry says is for the other family")
	}
	return strings.Join(parts, ", and ") + "; let them agree"
}

func zoneList(zones []*zone) string {
	const most = 4
	if len(zones) > most {
		return fmt.Sprintf("%s and %d more zones", zoneNames(zones[:most], ", "), len(zones)-most)
	}
	if len(zones) == 1 {
		return "zone " + zones[0].Name
	}
	return "zones " + zoneNames(zones, ", ")
}

func familyWords(f [2]bool) string {
	switch f {
	case [2]bool{true, false}:
		return "IPv4 only"
	case [2]bool{false, true}:
		return "IPv6 only"
	case [2]bool{}:
		return "none"
	}
	return "IPv4 and IPv6"
}

// forwardsFamilies notes that the policy forwards these families.
func (c *compiler) forwardsFamilies(f [2]bool) {
	for i := range f {
		c.forwards[i] = c.forwards[i] || f[i]
	}
}
