package policy

import (
	"fmt"
	"math"
	"slices"
	"time"
)

func conntrackFields() []field[Conntrack] {
	return []field[Conntrack]{
		// nf_conntrack_max is a signed number.
		{key: "max", about: "how many flows it holds", value: conntrackMaxShape,
			takes: "a number of connections, from 1 to 2147483647", decode: func(d *decoder, n *node, c *Conntrack) {
				if v, ok := d.number(n, 1, math.MaxInt32); ok && settled(d, n, "gateway.conntrack.max", v, c.Max) {
					c.Max = v
				}
			}},
		{key: "accounting", about: "count packets and bytes of each flow", value: booleanShape,
			takes: "true or false", decode: func(d *decoder, n *node, c *Conntrack) {
				d.once(n, "gateway.conntrack.accounting", &c.Accounting)
			}},
		{key: "timeouts", about: "how long a flow lives without a packet", value: allTimeoutsShape,
			takes: timeoutsTake, decode: func(d *decoder, n *node, c *Conntrack) {
				d.timeouts(n, &c.Timeouts, "gateway.conntrack.timeouts")
			}},
	}
}

func (d *decoder) conntrack(n *node, g *Gateway) {
	n = deref(n)
	if g.Conntrack == nil {
		g.Conntrack = &Conntrack{Place: d.at(n)}
	}
	if d.filled(n, "{max: 262144}, say") {
		fields(d, n, conntrackFields(), g.Conntrack)
	}
}

func offloadFields() []field[Offload] {
	return []field[Offload]{
		{key: "zones", about: "the zones, which need interfaces or default_route", value: namedZonesShape,
			takes: "a zone or a list of zones", decode: func(d *decoder, n *node, o *Offload) {
				others := o.Zones // of other files
				for _, r := range d.zoneRefs(n) {
					if r.Any {
						d.fail(r.Place, "`any` does not say which interfaces to offload; name the zones between which much is carried")
						continue
					}
					if !slices.ContainsFunc(others, func(z ZoneRef) bool { return z.Name == r.Name }) {
						o.Zones = append(o.Zones, r)
					}
				}
			}},
		{key: "hardware", about: "the network cards take the flows, where they can", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, o *Offload) {
				if v, ok := d.boolean(n); ok && settled(d, n, "gateway.offload.hardware", v, o.Hardware) {
					o.Hardware = v
				}
			}},
	}
}

func (d *decoder) offload(n *node, g *Gateway) {
	n = deref(n)
	if g.Offload == nil {
		g.Offload = &Offload{Place: d.at(n)}
	}
	if w, ok := fields(d, n, offloadFields(), g.Offload); ok && len(g.Offload.Zones) == 0 {
		w.require("an offload", "zones")
	}
}

// settled is true where a setting may be taken: one that another file has
// written already is only checked to be the same.
func settled[T comparable](d *decoder, n *node, setting string, v, have T) bool {
	at := d.at(deref(n))
	first, again := d.settings[setting]
	if !again {
		d.settings[setting] = at
		return true
	}
	text := func(v T) string {
		if after, ok := any(v).(time.Duration); ok {
			return durationText(after)
		}
		return fmt.Sprint(v)
	}
	if v != have {
		d.fail(at, fmt.Sprintf("`%s` is %s here and %s elsewhere; write it in one file", d.key, text(v), text(have)),
			Note{first, "the other one"})
	}
	return false
}
