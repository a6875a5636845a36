package policy

import (
	"fmt"
	"slices"
	"time"
)

// timeoutsDecoding is timeouts, and the setting that they are, where several
// files may write them.
type timeoutsDecoding struct {
	to      *Timeouts
	setting string
}

func timeoutsFields() []field[timeoutsDecoding] {
	states := func(protocol string, names []string, of func(*Timeouts) *[]Timeout) field[timeoutsDecoding] {
		takes := fmt.Sprintf("a mapping of states to durations, as {%s: 3m}", names[len(names)/4])
		return field[timeoutsDecoding]{key: protocol, about: "flows of " + protocol + ", by state", value: objectShape(stateFields(names, of)), takes: takes, decode: func(d *decoder, n *node, t *timeoutsDecoding) {
			n = deref(n)
			if !d.filled(n, "a state with a duration") {
				return
			}
			inner := timeoutsDecoding{t.to, t.setting}
			if inner.setting != "" {
				inner.setting += "." + protocol
			}
			fields(d, n, stateFields(names, of), &inner)
		}}
	}
	whole := func(protocol, about string, of func(*Timeouts) *time.Duration) field[timeoutsDecoding] {
		return field[timeoutsDecoding]{key: protocol, about: about, value: durationShape, takes: durationTakes, decode: func(d *decoder, n *node, t *timeoutsDecoding) {
			if v, ok := d.duration(n); ok && t.settled(d, n, v, *of(t.to)) {
				*of(t.to) = v
			}
		}}
	}
	generic := whole("generic", "all other protocols", func(t *Timeouts) *time.Duration { return &t.Generic })
	ofAll := generic.decode
	generic.decode = func(d *decoder, n *node, t *timeoutsDecoding) {
		if t.setting == "" {
			// nft_ct_timeout_obj_eval compares the protocol, and no packet is of "any other".
			d.failAt(deref(n), "the kernel cannot give an entry's flows a `generic` timeout; write it under `conntrack` in `gateway`, for the flows of all")
			return
		}
		ofAll(d, n, t)
	}
	return []field[timeoutsDecoding]{
		states("tcp", []string{"syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close"},
			func(t *Timeouts) *[]Timeout { return &t.TCP }),
		states("udp", []string{"unreplied", "replied"}, func(t *Timeouts) *[]Timeout { return &t.UDP }),
		whole("icmp", "ICMP and ICMPv6", func(t *Timeouts) *time.Duration { return &t.ICMP }),
		generic,
		instead[timeoutsDecoding]("icmpv6", "`icmp` is for both families"),
	}
}

// stateFields is the mapping of one protocol's states.
func stateFields(names []string, of func(*Timeouts) *[]Timeout) []field[timeoutsDecoding] {
	table := make([]field[timeoutsDecoding], len(names))
	for i, name := range names {
		table[i] = field[timeoutsDecoding]{key: name, about: "how long a flow lives in this state", value: durationShape, takes: durationTakes, decode: func(d *decoder, n *node, t *timeoutsDecoding) {
			after, ok := d.duration(n)
			if !ok {
				return
			}
			list := of(t.to)
			have := time.Duration(0)
			j := slices.IndexFunc(*list, func(other Timeout) bool { return other.State == name })
			if j >= 0 {
				have = (*list)[j].After
			}
			if t.settled(d, n, after, have) && j < 0 {
				*list = append(*list, Timeout{d.at(deref(n)), name, after})
			}
		}}
	}
	return table
}

// settled holds a duration to what another file says.
func (t *timeoutsDecoding) settled(d *decoder, n *node, v, have time.Duration) bool {
	return t.setting == "" || settled(d, n, t.setting+"."+d.key, v, have)
}

// timeouts decodes the mapping; setting is "" in an entry.
func (d *decoder) timeouts(n *node, to **Timeouts, setting string) {
	n = deref(n)
	if *to == nil {
		*to = &Timeouts{Place: d.at(n)}
	}
	if d.filled(n, "{udp: {replied: 3m}}, say") {
		fields(d, n, timeoutsFields(), &timeoutsDecoding{*to, setting})
	}
}

const entryTimeoutsTake = "a mapping as {tcp: {established: 2h4m}, udp: {replied: 3m}, icmp: 30s}"

const timeoutsTake = "a mapping as {tcp: {established: 2h4m}, udp: {replied: 3m}, icmp: 30s, generic: 10m}"

func timeoutsField[T any](of func(*T) **Timeouts) field[T] {
	return field[T]{key: "timeouts", about: "how long connections are remembered without a packet", value: timeoutsShape,
		takes: entryTimeoutsTake, decode: func(d *decoder, n *node, to *T) {
			d.timeouts(n, of(to), "")
		}}
}

// attributesFit reports timeouts and helpers of an entry that none of its
// protocols has a use for.
func (w written) attributesFit(protocols []Protocol, t *Timeouts, helpers []Helper) {
	if len(protocols) == 0 {
		return
	}
	note := Note{protocols[0].Place, "`protocol` stands here"}
	has := func(numbers ...uint8) bool {
		return slices.ContainsFunc(protocols, func(p Protocol) bool { return slices.Contains(numbers, p.Number) })
	}
	if t != nil {
		inner := written{d: w.d, n: deref(w.value("timeouts"))}
		useless := func(key string, useful bool) {
			if v := inner.value(key); v != nil && !useful {
				w.d.failAt(deref(v), fmt.Sprintf("the timeouts of `%s` are never used, since `protocol` leaves it out; take them out, or add the protocol", key), note)
			}
		}
		useless("tcp", has(ProtocolTCP))
		useless("udp", has(ProtocolUDP, ProtocolUDPLite))
		useless("icmp", has(ProtocolICMP, ProtocolICMPv6))
	}
	for _, h := range helpers {
		if p := h.protocols(); !has(p...) {
			w.d.fail(h.Place, fmt.Sprintf("the helper %s is never used, since it is of %s, which `protocol` leaves out; take it out, or add the protocol", h.Name, ProtocolName(p[0])), note)
		}
	}
}
