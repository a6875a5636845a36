package policy

import "go.yaml.in/yaml/v4"

func hairpinFields() []field[Hairpin] {
	return []field[Hairpin]{
		{key: "zones", about: "only these inside zones. Left out: all, and the gateway itself", value: namedZonesShape,
			takes: "a zone or a list of zones", decode: func(d *decoder, n *node, h *Hairpin) {
				h.Zones = d.zoneRefs(n)
				if len(h.Zones) == 1 && h.Zones[0].Any {
					d.fail(h.Zones[0].Place, "`any` is what a hairpin has without `zones`; take `zones` out")
				}
			}},
		{key: "source", about: "which address the target sees where one is needed: the gateway's on that side, or the outside address that the client connected to", value: hairpinSourceShape, preset: "gateway",
			takes: "gateway or outside", decode: func(d *decoder, n *node, h *Hairpin) {
				h.OutsideSource = word(d, n, hairpinSources(), []bool{false, true})
			}},
	}
}

func hairpinSources() []string { return []string{"gateway", "outside"} }

// hairpin decodes true, false or the mapping.
func (d *decoder) hairpin(n *node, f *PortForward) {
	n = deref(n)
	f.Hairpin.Place = d.at(n)
	if n.Kind != yaml.MappingNode {
		on, ok := d.boolean(n)
		f.Hairpin.Off = ok && !on
		return
	}
	if len(n.Content) == 0 {
		d.failAt(n, "the mapping is empty; write `hairpin: true`, or say `zones` or `source`")
		return
	}
	fields(d, n, hairpinFields(), &f.Hairpin)
}
