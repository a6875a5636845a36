package policy

import "fmt"

func forwardFields() []field[Forward] {
	return []field[Forward]{
		{key: "default", takes: "drop, reject or accept", decode: (*decoder).forwardDefaultKey},
		{key: "rules", takes: "a list of rules", decode: (*decoder).forwardRules},
	}
}

func ruleFields() []field[Rule] {
	return append([]field[Rule]{
		{key: "name", takes: "a name", decode: func(d *decoder, n *node, r *Rule) { r.Name = d.name(n) }},
		{key: "family", takes: familyTakes, decode: func(d *decoder, n *node, r *Rule) { r.Family = d.family(n) }},
		{key: "from", takes: zonesTake, decode: func(d *decoder, n *node, r *Rule) { r.From = d.zoneRefs(n) }},
		{key: "to", takes: zonesTake, decode: func(d *decoder, n *node, r *Rule) { r.To = d.zoneRefs(n) }},
		{key: "sources", takes: addressesTake, decode: func(d *decoder, n *node, r *Rule) {
			r.Sources = d.addresses(n, setNames)
		}},
		{key: "except_sources", takes: addressesTake, decode: func(d *decoder, n *node, r *Rule) {
			r.ExceptSources = d.addresses(n, setNames)
		}},
		{key: "destinations", takes: addressesTake, decode: func(d *decoder, n *node, r *Rule) {
			r.Destinations = d.addresses(n, setNames|gatewayWord)
		}},
		{key: "except_destinations", takes: addressesTake, decode: func(d *decoder, n *node, r *Rule) {
			r.ExceptDestinations = d.addresses(n, setNames|gatewayWord)
		}},
		{key: "protocol", takes: protocolsTake, decode: func(d *decoder, n *node, r *Rule) { r.Protocols = d.protocols(n) }},
		{key: "source_ports", takes: portsTake, decode: func(d *decoder, n *node, r *Rule) { r.SourcePorts = d.ports(n) }},
		{key: "ports", takes: portsTake, decode: func(d *decoder, n *node, r *Rule) { r.Ports = d.ports(n) }},
		{key: "icmp_types", takes: "the name of an ICMP type, or a list of names", decode: func(d *decoder, n *node, r *Rule) {
			r.ICMPTypes = d.icmpTypes(n)
		}},
		{key: "action", takes: "accept, drop or reject", decode: func(d *decoder, n *node, r *Rule) { r.Action = d.action(n) }},
	}, later[Rule]("rate", "synproxy", "max_connections", "mark", "log")...)
}

func (d *decoder) forwardSection(n *node, p *Policy) {
	if p.Forward.Place == (Place{}) {
		p.Forward.Place = d.at(deref(n))
	}
	fields(d, n, forwardFields(), &p.Forward)
}

func (d *decoder) forwardDefaultKey(n *node, f *Forward) {
	at := d.at(deref(n))
	action, ok := d.actionWord(n)
	switch {
	case !ok:
	case d.forwardDefault == (Place{}):
		f.Default, d.forwardDefault = action, at
	case f.Default != action:
		d.fail(at, fmt.Sprintf("`default` is %s here and %s elsewhere; write it in one file", action, f.Default),
			Note{d.forwardDefault, "the other one"})
	}
}

func (d *decoder) forwardRules(n *node, f *Forward) {
	table := ruleFields()
	entries(d, n, &f.Rules, func(n *node, at Place) (Rule, bool) {
		r := Rule{Place: at}
		w, ok := fields(d, n, table, &r)
		if !ok {
			return r, false
		}
		w.require("a rule", "action")
		w.portsNeedProtocol("ports", r.Protocols)
		w.portsNeedProtocol("source_ports", r.Protocols)
		if w.has("icmp_types") {
			if !w.has("ports") && !w.has("source_ports") {
				r.Protocols = w.icmpProtocols(r.Protocols, r.ICMPTypes)
			} else if len(r.ICMPTypes) > 0 {
				d.fail(w.place("icmp_types"), "`icmp_types` and ports never meet in one packet; make two rules of it")
			}
		}
		derived := ""
		if (len(r.From) > 0 || !w.has("from")) && (len(r.To) > 0 || !w.has("to")) {
			derived = joinZones(r.From) + "-" + joinZones(r.To)
		}
		d.rules = append(d.rules, w.label(at, &r.Name, derived))
		return r, true
	})
}

// String gives the action as a policy writes it.
func (a Action) String() string {
	switch a {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	}
	return "drop"
}

func (d *decoder) action(n *node) Action {
	a, _ := d.actionWord(n)
	return a
}

func (d *decoder) actionWord(n *node) (Action, bool) {
	before := len(d.errs)
	a := word(d, n, []string{"accept", "drop", "reject"}, []Action{Accept, Drop, Reject})
	return a, len(d.errs) == before
}
