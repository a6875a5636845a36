package compile

import (
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// priorityRaw is before conntrack (NF_IP_PRI_RAW).
const priorityRaw = -300

// watched is whose sources are looked at on the interfaces of a bucket.
type watched struct {
	zones  []*zone // those with antispoof that name the interface: every source is
	cells  []cell  // where there are none: those of zones of any interface
	spared []cell  // those of zones that say `antispoof: false`
	uplink bool    // what comes in here may be routed back by another uplink
}

// antispoof drops what arrives on a zone's interfaces from a source that the
// host would not send back there, before conntrack remembers it.
func (c *compiler) antispoof(base func() *ruleset.Chain) {
	if !slices.ContainsFunc(c.zones, func(z *zone) bool { return z.Antispoof }) {
		return
	}
	uplinks := c.uplinkZones()
	made := map[string]string{}
	ch := c.chain("antispoof", own("antispoof"))
	c.rule(base(), own("antispoof"), jumpTo(ch.Name))
	c.byInterface(ch, own("antispoof"), back(), func(b *bucket) ruleset.Action {
		w := watch(b, uplinks)
		if len(w.zones)+len(w.cells) == 0 {
			return back()
		}
		key := w.key()
		if made[key] == "" {
			made[key] = c.antispoofChain(w, uplinks)
		}
		return goTo(made[key])
	})
}

// uplinkZones are the zones that flows of others leave by. What one of them
// brings may be routed back by another, where something else than the
// destination chooses the way: a mark, which is not known before conntrack.
func (c *compiler) uplinkZones() []*zone {
	var out []*zone
	for _, z := range c.zones {
		to := slices.ContainsFunc(c.translators, func(t *translator) bool { return slices.Contains(t.to, z) })
		from := slices.ContainsFunc(c.translators, func(t *translator) bool { return slices.Contains(t.from, z) })
		if to && !from || z.Symmetric != nil {
			out = append(out, z)
		}
	}
	return out
}

func watch(b *bucket, uplinks []*zone) watched {
	var w watched
	for _, x := range b.cells {
		z := x.zone
		switch {
		case x.empty():
		case z.Antispoof && len(z.Interfaces) == 0:
			w.cells = append(w.cells, x)
		case z.Antispoof:
			w.zones = append(w.zones, z)
			w.uplink = w.uplink || slices.Contains(uplinks, z)
		case z.AntispoofAt.Line > 0:
			w.spared = append(w.spared, x)
		}
	}
	if len(w.zones) > 0 {
		w.cells = nil
	} else {
		w.spared = nil
	}
	return w
}

// key tells apart what needs a chain of its own.
func (w *watched) key() string {
	key := zoneNames(w.zones, " ")
	for _, list := range [][]cell{w.cells, w.spared} {
		key += "/"
		for _, x := range list {
			key += " " + x.name
		}
	}
	return key
}

// antispoofChain drops forged sources. Nearly all packets leave it by the first
// rule.
func (c *compiler) antispoofChain(w watched, uplinks []*zone) string {
	zones := slices.Clone(w.zones)
	for _, x := range w.cells {
		zones = append(zones, x.zone)
	}
	o := origin("antispoof", zoneNames(zones, "-"), zones[0].Place)
	ch := c.chain(unused(c.chains, "antispoof_"+zoneNames(zones, "_")), o)
	c.rule(ch, o, back(), equal(ruleset.FibSaddrIif, 0, 0, 0, 1))
	c.sparedSources(ch, o)
	if w.uplink {
		c.asked = true
		// nft(8) takes no sets of what a look-up of routes gives.
		for _, p := range widest(uplinks) {
			c.rule(ch, o, back(), interfaceIs(ruleset.FibSaddrOIfName, p)...)
		}
	}
	for _, x := range w.spared {
		c.entryRules(ch, o, c.fromCell(x), "", back())
	}
	when := anything()
	if len(w.cells) > 0 {
		when = nil
		for _, x := range w.cells {
			when = append(when, c.fromCell(x)...)
		}
	}
	c.entryRules(ch, o, when, c.counter("antispoof_"+zoneNames(zones, "_"), o), ruleset.Action{Kind: ruleset.Drop})
	return ch.Name
}

// sparedSources lets pass what has no address yet, and sources of the link
// alone, for which there may be no route; and DHCP, whose servers answer from
// any address.
func (c *compiler) sparedSources(ch *ruleset.Chain, o ruleset.Origin) {
	for f, list := range [2][]string{{"0.0.0.0/32", "169.254.0.0/16"}, {"::/128", "fe80::/10"}} {
		for _, text := range list {
			p := netip.MustParsePrefix(text)
			c.rule(ch, o, back(), isFamily(f),
				ruleset.Match{Fields: []ruleset.Field{sources()[f]}, Value: appendAddr(nil, p.Addr()), Bits: p.Bits()})
		}
	}
	const server, client = 67, 68
	dhcp := func(port ruleset.Field) ruleset.Match {
		return ruleset.Match{Fields: []ruleset.Field{port}, Op: ruleset.Between, Value: portBytes(server), High: portBytes(client)}
	}
	c.rule(ch, o, back(), isFamily(0), equal(ruleset.L4Proto, policy.ProtocolUDP), dhcp(ruleset.SrcPort), dhcp(ruleset.DstPort))
}

// fromCell matches the sources of a cell.
func (c *compiler) fromCell(x cell) []alternative {
	base, o := "zone_"+x.zone.Name, origin("zone", x.zone.Name, x.zone.Place)
	var out []alternative
	for f, field := range sources() {
		a := alternative{family: only(f)}
		switch list := x.addresses[f]; {
		case len(list) == 0:
			continue
		case !list.equal(whole(f)):
			name, _ := c.nameOf(base+familySuffix(f), list.content())
			a.matches = []ruleset.Match{c.spansMatch(field, list, name, o)}
		}
		out = append(out, a)
	}
	return out
}

// back goes on behind the jump that led to a chain.
func back() ruleset.Action { return ruleset.Action{Kind: ruleset.Return} }
