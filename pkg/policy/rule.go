package policy

import (
	"fmt"
	"slices"
)

// ruleKind is the section that rules stand in.
type ruleKind bool

const (
	forwardRules ruleKind = false
	inputRules   ruleKind = true
)

func (k ruleKind) section() string {
	if k == inputRules {
		return "input"
	}
	return "forward"
}

func ruleFields(kind ruleKind) []field[Rule] {
	to := field[Rule]{key: "to", about: "the zones that it goes to", value: zoneRefsShape, preset: "any",
		takes: zonesTake, decode: func(d *decoder, n *node, r *Rule) { r.To = d.zoneRefs(n) }}
	if kind == inputRules {
		to = instead[Rule]("to", "what comes to `input` goes to the gateway itself; its addresses are `destinations`")
	}
	return slices.Concat([]field[Rule]{
		{key: "name", about: "what counters and messages call the rule. Left out: made of the zones", value: nameShape,
			takes: "a name", decode: func(d *decoder, n *node, r *Rule) { r.Name = d.name(n) }},
		{key: "family", about: "narrows the rule to one IP family", value: familyShape,
			takes: familyTakes, decode: func(d *decoder, n *node, r *Rule) { r.Family = d.family(n) }},
		{key: "from", about: "the zones that it comes from", value: zoneRefsShape, preset: "any",
			takes: zonesTake, decode: func(d *decoder, n *node, r *Rule) { r.From = d.zoneRefs(n) }},
		to,
	}, narrowFields(func(r *Rule) narrowing {
		return narrowing{&r.Sources, &r.ExceptSources, &r.Destinations, &r.ExceptDestinations}
	}), []field[Rule]{
		{key: "protocol", about: "only these protocols", value: protocolsShape,
			takes: protocolsTake, decode: func(d *decoder, n *node, r *Rule) { r.Protocols = d.protocols(n) }},
		{key: "source_ports", about: "only these ports of the client", value: portsShape, needs: "protocol",
			takes: portsTake, decode: func(d *decoder, n *node, r *Rule) { r.SourcePorts = d.ports(n) }},
		{key: "ports", about: "only these destination ports; behind a port forward the target's", value: portsShape, needs: "protocol",
			takes: portsTake, decode: func(d *decoder, n *node, r *Rule) { r.Ports = d.ports(n) }},
		{key: "icmp_types", about: "only these types of ICMP and ICMPv6", value: icmpTypesShape,
			takes: "the name of an ICMP type, or a list of names", decode: func(d *decoder, n *node, r *Rule) {
				r.ICMPTypes = d.icmpTypes(n)
			}},
		{key: "action", about: "what becomes of what matches", value: actionShape, must: true,
			takes: "accept, drop or reject", decode: func(d *decoder, n *node, r *Rule) { r.Action = d.action(n) }},
		{key: "rate", about: "match new connections up to this rate; the next rules decide of those above it", value: rateShape,
			takes: rateTakes, decode: func(d *decoder, n *node, r *Rule) {
				rate := d.rate(n)
				r.Rate = &rate
			}},
		{key: "synproxy", about: "the gateway completes the TCP handshake before the server sees anything", value: booleanShape, preset: false,
			takes: "true or false", decode: func(d *decoder, n *node, r *Rule) { r.Synproxy, _ = d.boolean(n) }},
		maxConnectionsField(func(r *Rule) *Limits { return &r.Limits }),
		{key: "mark", about: "gives packets a mark before they are routed", value: markShape,
			takes: markTakes, decode: func(d *decoder, n *node, r *Rule) {
				if m, ok := d.packetMark(n); ok {
					r.Mark = &m
				}
			}},
		logField(func(r *Rule) **Log { return &r.Log }),
		instead[Rule]("timeouts", "it belongs to `masquerade`, `snat` and `port_forward`"),
		instead[Rule]("helpers", "it belongs to `masquerade`, `snat` and `port_forward`"),
	})
}

func (d *decoder) rulesOf(n *node, kind ruleKind, f *Forward) {
	labels := &d.rules
	if kind == inputRules {
		labels = &d.inputRules
	}
	table := ruleFields(kind)
	entries(d, n, &f.Rules, func(n *node, at Place) (Rule, bool) {
		r := Rule{Place: at}
		w, ok := fields(d, n, table, &r)
		if !ok {
			return r, false
		}
		requireAll(w, "a rule", table)
		w.portsNeedProtocol("ports", r.Protocols)
		w.portsNeedProtocol("source_ports", r.Protocols)
		if w.has("icmp_types") {
			if !w.has("ports") && !w.has("source_ports") {
				r.Protocols = w.icmpProtocols(r.Protocols, r.ICMPTypes)
			} else if len(r.ICMPTypes) > 0 {
				d.fail(w.place("icmp_types"), "`icmp_types` and ports never meet in one packet; make two rules of it")
			}
		}
		w.needAccept(&r)
		derived := ""
		if (len(r.From) > 0 || !w.has("from")) && (len(r.To) > 0 || !w.has("to")) {
			if derived = joinZones(r.From); kind == forwardRules {
				derived += "-" + joinZones(r.To)
			}
		}
		*labels = append(*labels, w.label(at, &r.Name, derived))
		return r, true
	})
}

// needAccept checks the keys that are about connections which a rule accepts.
func (w written) needAccept(r *Rule) {
	action := w.value("action")
	for _, key := range []string{"synproxy", "max_connections"} {
		if v := w.value(key); v != nil && action != nil && r.Action != Accept && (key != "synproxy" || r.Synproxy) {
			w.d.fail(w.place(key), fmt.Sprintf("`%s` is about connections that are accepted, and this rule has `action: %s`; write `action: accept`, or take the key out", key, r.Action),
				Note{w.place("action"), "`action` stands here"})
		}
	}
	if !r.Synproxy {
		return
	}
	at := w.place("synproxy")
	if !w.has("protocol") {
		w.d.fail(at, "`synproxy` is for TCP alone; add `protocol: tcp`")
		return
	}
	for _, p := range r.Protocols {
		if p.Number != ProtocolTCP {
			w.d.fail(p.Place, fmt.Sprintf("`synproxy` is for TCP alone; take %s out, or give it a rule of its own without `synproxy`", ProtocolName(p.Number)),
				Note{at, "`synproxy` stands here"})
		}
	}
}
