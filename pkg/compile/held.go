package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// notHeldShown is how many addresses a warning names.
const notHeldShown = 3

// notHeld warns of outside addresses that the host does not hold: no neighbour
// gets an answer to ARP or neighbour discovery for them, and so no packet comes
// back unless a router sends them here. What says what they are.
func (c *compiler) notHeld(list spans, to []*zone, what string, at policy.Place) {
	if len(c.facts.Links) == 0 || len(list) == 0 {
		return
	}
	f := familyIndex(list[0].lo)
	missing := list.minus(c.answersFor(f))
	if len(missing) == 0 {
		return
	}
	one := len(missing) == 1 && missing[0].lo == missing[0].hi
	var shown []string
	for _, s := range missing[:min(len(missing), notHeldShown)] {
		shown = append(shown, s.String())
	}
	command := fmt.Sprintf("ip address add %s/%d dev %s", missing[0].lo, missing[0].lo.BitLen(), c.uplinkOf(to, missing[0].lo))
	mends := "it"
	if !one {
		mends = "the first of them"
	}
	if f == 1 {
		command += " preferred_lft 0" // otherwise the host would choose it for its own connections
	} else if _, ok := list[0].prefix(); ok && len(list) == 1 && !one {
		command, mends = fmt.Sprintf("ip route add local %s dev lo", list[0]), "it"
	}
	c.unheld = append(c.unheld, NotHeld{at, strings.ReplaceAll(what, "`", ""), shown, addCommands(missing, command), len(c.onLinks(missing, to)) > 0})
	text, are, it := strings.Join(shown, ", "), "are not addresses", "each of them"
	if one {
		are, it = "is not an address", "it"
	}
	if len(missing) > notHeldShown {
		text += " and more"
	}
	c.warning(at, fmt.Sprintf("%s in the %s %s of this host: unless a router sends %s here, answers do not come back; `%s` mends %s",
		text, what, are, it, command, mends))
}

// NotHeld is outside addresses that the host does not hold.
type NotHeld struct {
	policy.Place
	What      string   // "pool of snat web"
	Addresses []string // and ranges, the first few
	Commands  []string // add them to the host, or the first
	// OnLink says that neighbours of an uplink ask for some of them: nobody
	// answers. Others may be sent here by a router.
	OnLink bool
}

// heldOneByOne is up to how many addresses commands add one by one.
const heldOneByOne = 16

// addCommands makes the command that adds the first of some addresses one for
// each of them, where they are few and it does not add all already.
func addCommands(missing spans, command string) (out []string) {
	for _, s := range missing {
		for a := s.lo; ; a = a.Next() {
			if len(out) == heldOneByOne {
				return []string{command}
			}
			out = append(out, strings.Replace(command, missing[0].lo.String(), a.String(), 1))
			if a == s.hi {
				break
			}
		}
	}
	if strings.HasPrefix(command, "ip route ") {
		return []string{command}
	}
	return out
}

// answersFor gives the addresses of a family for which the host answers those
// who ask.
func (c *compiler) answersFor(f int) spans {
	if c.held == nil {
		c.held = &[2]spans{}
		for _, p := range c.facts.Local {
			if p.Addr().Is4() { // of IPv6, no neighbour is told of a local route
				c.held[0] = append(c.held[0], spanOf(p))
			}
		}
		for _, link := range c.facts.Links {
			for _, a := range link.Addresses {
				i := familyIndex(a.Addr())
				c.held[i] = append(c.held[i], span{a.Addr(), a.Addr()})
			}
		}
		for i := range c.held {
			c.held[i] = merge(c.held[i])
		}
	}
	return c.held[f]
}

// uplinkOf is the name of an interface of zones, the one on whose network an
// address is, or one that is there, if any is.
func (c *compiler) uplinkOf(zones []*zone, a netip.Addr) string {
	there := ""
	for _, z := range zones {
		for _, link := range c.linksOf(z) {
			if there == "" || slices.ContainsFunc(link.Addresses, func(p Addr) bool { return p.Contains(a) }) {
				there = link.Name
			}
		}
	}
	if there != "" {
		return there
	}
	for _, z := range zones {
		if i := slices.IndexFunc(z.patterns, func(p pattern) bool { return !p.wildcard }); i >= 0 {
			return z.patterns[i].name
		}
	}
	return "UPLINK"
}

// linksOf gives the host's links that a zone names.
func (c *compiler) linksOf(z *zone) []Link {
	var out []Link
	for _, link := range c.facts.Links {
		if len(z.Interfaces) > 0 && z.on(pattern{name: link.Name}) {
			out = append(out, link)
		}
	}
	return out
}

// onLinks is onLink of several zones.
func (c *compiler) onLinks(list spans, zones []*zone) (out spans) {
	for _, z := range zones {
		out = append(out, c.onLink(list, z)...)
	}
	return out
}

// onLink gives those of some addresses for which neighbours of a zone ask, since
// they are on its links' own networks. Others get here only where a router
// sends them here.
func (c *compiler) onLink(list spans, z *zone) spans {
	var networks spans
	for _, link := range c.linksOf(z) {
		for _, a := range link.Addresses {
			if !link.PointToPoint && !a.IsSingleIP() && familyIndex(a.Addr()) == familyIndex(list[0].lo) {
				networks = append(networks, spanOf(a.Masked()))
			}
		}
	}
	return list.and(merge(networks))
}
