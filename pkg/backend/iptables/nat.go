package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// goal is where a translation leads: ranges of addresses and ports.
type goal struct {
	low, high        netip.Addr
	portMin, portMax uint16
	// base is the port that leads to portMin, the next one to the next; 0 where
	// each may lead to any.
	base uint16
}

// translation gives the targets of an action that translates.
func (t *translator) translation(r *ruleset.Rule) ([]target, error) {
	a := &r.Action
	n := &a.NAT
	switch a.Kind {
	case ruleset.SNATToDest:
		return t.toFirst(r.Known)
	case ruleset.Masquerade, ruleset.Redirect:
		name := "-j MASQUERADE"
		if a.Kind == ruleset.Redirect {
			name = "-j REDIRECT"
			if n.FullyRandom || n.Persistent {
				return nil, errors.New("iptables' REDIRECT chooses ports in turn or at random")
			}
		}
		return byProtocol(func(ports bool) string {
			text := name
			if ports && n.PortMin > 0 {
				text += " --to-ports " + portRange(n.PortMin, n.PortMax)
			}
			return text + options(n)
		}, n.PortMin > 0, false), nil
	}
	if a.Map == "" {
		return t.toGoal(a, goal{low: n.Low, high: n.High, portMin: n.PortMin, portMax: n.PortMax}, alternative{}, false)
	}
	m := t.sets[a.Map]
	if m == nil || len(m.Data) == 0 || m.IsVerdictMap() {
		return nil, fmt.Errorf("there is no map %s", a.Map)
	}
	var goals []goal
	picked, err := t.mapped(a, func(x group) (string, error) {
		g := goalAt(m, x.first, n)
		if last := goalAt(m, x.last(), n).portMax; last != g.portMax {
			g.portMax, g.base = last, portOf(m, a.Fields, x.first)
		}
		goals = append(goals, g)
		return strconv.Itoa(len(goals) - 1), nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]target, 0, len(picked))
	for _, x := range picked {
		if x.text == "" {
			out = append(out, x)
			continue
		}
		i, _ := strconv.Atoi(x.text)
		more, err := t.toGoal(a, goals[i], x.when, true)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// goalAt is what a map says.
func goalAt(m *ruleset.Set, i int, n *ruleset.NAT) goal {
	data := m.DataAt(i)
	size := m.Data[0].Size()
	g := goal{low: address(data[:size]), portMin: n.PortMin, portMax: n.PortMax}
	at := m.Data[0].Padded()
	if len(m.Data) > 1 {
		g.portMin = binary.BigEndian.Uint16(data[at:])
		g.portMax = g.portMin
		at += m.Data[1].Padded()
	}
	g.high = g.low
	if m.DataInterval {
		g.high = address(data[at : at+size])
		if len(m.Data) > 1 {
			g.portMax = binary.BigEndian.Uint16(data[at+m.Data[0].Padded():])
		}
	}
	return g
}

// portOf is the port that element i of a map is for.
func portOf(m *ruleset.Set, fields []ruleset.Field, i int) uint16 {
	k := slices.Index(fields, ruleset.DstPort)
	if k < 0 {
		return 0
	}
	from, _ := fieldBounds(fields, k)
	return binary.BigEndian.Uint16(m.KeyAt(i)[from:])
}

// toGoal gives the targets for DNAT and SNAT.
func (t *translator) toGoal(a *ruleset.Action, g goal, when alternative, part bool) ([]target, error) {
	n := &a.NAT
	if n.Prefix {
		return t.netmap(g, when, part)
	}
	name := "-j DNAT --to-destination "
	if a.Kind == ruleset.SNAT {
		name = "-j SNAT --to-source "
	} else if n.FullyRandom {
		return nil, errors.New("iptables' DNAT chooses in turn or at random")
	}
	out := byProtocol(func(ports bool) string {
		text := g.low.String()
		if g.high != g.low {
			text += "-" + g.high.String()
		}
		if ports && g.portMin > 0 {
			if g.low.Is6() {
				text = "[" + text + "]"
			}
			text += ":" + portRange(g.portMin, g.portMax)
			if g.base > 0 {
				text += "/" + strconv.Itoa(int(g.base))
			}
		}
		return name + text + options(n)
	}, g.portMin > 0, a.Kind == ruleset.DNAT && when.keepsPort(g))
	out = slices.DeleteFunc(out, func(x target) bool { return t.among.excludes(x.when.condition) })
	for i := range out {
		out[i].when = product([]alternative{when}, []alternative{out[i].when})[0]
		out[i].part = out[i].part || part
	}
	return out, nil
}

const udpLite = 136

// keepsPort says whether the port of what an alternative matches is that of
// the goal.
func (a alternative) keepsPort(g goal) bool {
	for _, x := range a.of(destinationPort) {
		if !x.not && x.ports == [2]uint16{g.portMin, g.portMax} && g.portMin == g.portMax {
			return true
		}
	}
	return false
}

// netmap keeps the place within a prefix.
func (t *translator) netmap(g goal, when alternative, part bool) ([]target, error) {
	bits, ok := prefixOf(g.low, g.high)
	if !ok {
		return nil, errors.New("iptables maps whole prefixes alone")
	}
	return []target{{when: when, text: fmt.Sprintf("-j NETMAP --to %s/%d", g.low, bits), part: part}}, nil
}

// byProtocol gives a target with ports for each protocol of which the programs
// take them, and one for UDP-Lite, of which they do not. Where the rule names a
// protocol, only its target is possible.
func byProtocol(text func(ports bool) string, ports, keeps bool) []target {
	if !ports {
		return []target{{text: text(false)}}
	}
	lite := target{when: alternative{condition: condition{{slot: protocol, proto: udpLite}}}, text: text(!keeps), lite: !keeps}
	other := alternative{condition: condition{{slot: protocol, not: true, proto: udpLite}}}
	return []target{{when: other, text: text(true)}, lite}
}

// liteChain makes a chain for UDP-Lite that translates to ports. The kernel
// knows them, and the programs want a rule to name another protocol, be it to
// exclude that.
func (t *translator) liteChain(text string, o ruleset.Origin) string {
	h := fnv.New32a()
	fmt.Fprint(h, text)
	name := chainName(fmt.Sprintf("udplite_%08x", h.Sum32()), plain)
	if !slices.ContainsFunc(t.table.chains, func(c *chain) bool { return c.name == name }) {
		l := finish("! -p tcp", o, "", text)
		t.table.chains = append(t.table.chains, &chain{name: name, origin: o, lines: []line{l}})
	}
	return "-j " + name
}

func portRange(low, high uint16) string {
	if high <= low {
		return strconv.Itoa(int(low))
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// options are how a translation chooses, as iptables prints them.
func options(n *ruleset.NAT) string {
	text := ""
	if n.Random {
		text += " --random"
	}
	if n.FullyRandom {
		text += " --random-fully"
	}
	if n.Persistent {
		text += " --persistent"
	}
	return text
}
