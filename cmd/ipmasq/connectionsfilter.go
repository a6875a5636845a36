package main

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// flowFilter is what the filter flags of the connections commands say, all
// together. Of the values of one flag one has to fit, and all flags have to.
type flowFilter struct {
	// kernel is what conntrack is asked for: as much as it has words for.
	kernel conntrack.Filter
	// The rest of what a flow itself tells.
	ports  []conntrack.PortRange // at either end
	states []flowState
	marks  []markBits
	// What the policy tells. The names are the policy's once resolve has seen
	// it. "" is a flow that is not ours, or an end in no zone.
	zones, from, to, entries []string
	given                    bool
}

// flowState is a value of --state: a state of TCP, or bits of the status.
type flowState struct {
	tcp          conntrack.State
	status, mask conntrack.Status // mask 0: it is a state of TCP
}

type markBits struct{ value, mask uint32 }

// filterFlags are what list, watch, top, kill and count have in common.
func filterFlags() []cli.Flag {
	list := func(name, usage string) cli.Flag { return &cli.StringSliceFlag{Name: name, Usage: usage} }
	return []cli.Flag{
		list("source", "connections from `ADDRESS`, before or after translation: one, a prefix, or a range A-B"),
		list("destination", "connections to `ADDRESS`, before or after translation"),
		list("source-port", "connections from `PORT`, or range of ports A-B"),
		list("destination-port", "connections to `PORT`, or range of ports A-B"),
		list("port", "connections with `PORT` at either end"),
		list("protocol", "connections of `PROTOCOL`: tcp, udp, icmp, ... or a number"),
		list("family", "connections of `FAMILY`: ipv4 or ipv6"),
		list("state", "connections in `STATE`: one of TCP (established, time_wait, ...), or assured, unreplied, replied, snat, dnat or expected"),
		list("zone", "connections with an end in `ZONE` (gateway: the host itself; -: none)"),
		list("from", "connections that begin in `ZONE`"),
		list("to", "connections that lead to `ZONE`"),
		list("entry", "connections of the policy's `ENTRY`, as \"port_forward web\", or web where only one is called so; -: those that are not ours"),
		&cli.BoolFlag{Name: "nat", Usage: "translated connections only"},
		list("mark", "connections with `MARK`, as 0x1, or 0x1/0xff for some bits of it"),
	}
}

// readFilter reads the filter flags. Zones and entries are checked by resolve,
// since only the policy knows them.
func readFilter(c *cli.Context) (*flowFilter, error) {
	f := &flowFilter{}
	k := &f.kernel
	err := firstError(
		readEach(c, "source", &k.Sources, readAddresses),
		readEach(c, "destination", &k.Destinations, readAddresses),
		readEach(c, "source-port", &k.SourcePorts, readPorts),
		readEach(c, "destination-port", &k.DestinationPorts, readPorts),
		readEach(c, "port", &f.ports, readPorts),
		readEach(c, "protocol", &k.Protocols, readProtocol),
		readEach(c, "family", &k.Families, readFamily),
		readEach(c, "state", &f.states, readState),
		readEach(c, "mark", &f.marks, readMark),
		readEach(c, "zone", &f.zones, readName),
		readEach(c, "from", &f.from, readName),
		readEach(c, "to", &f.to, readName),
		readEach(c, "entry", &f.entries, readName),
	)
	if err != nil {
		return nil, err
	}
	k.Translated = c.Bool("nat")
	f.given = k.Translated || slices.ContainsFunc(filterFlags(), func(flag cli.Flag) bool {
		_, isList := flag.(*cli.StringSliceFlag)
		return isList && c.IsSet(flag.Names()[0])
	})
	if err := f.contradiction(); err != nil {
		return nil, err
	}
	f.push()
	return f, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readEach reads the values of a flag that may be given several times, or hold
// several values with commas between them.
func readEach[T any](c *cli.Context, name string, into *[]T, read func(text string) ([]T, error)) error {
	for _, text := range c.StringSlice(name) {
		values, err := read(text)
		if err != nil {
			return usagef("--%s %s: %v", name, shownValue(text), err)
		}
		*into = append(*into, values...)
	}
	return nil
}

func shownValue(text string) string {
	if text == "" || strings.ContainsAny(text, " \t\n") {
		return `"` + text + `"`
	}
	return text
}

// contradiction refuses flags that no flow can fit together.
func (f *flowFilter) contradiction() error {
	k := &f.kernel
	ports := len(k.SourcePorts)+len(k.DestinationPorts)+len(f.ports) > 0
	hasPorts := func(number uint8) bool { return policy.HasPorts(number) || number == protocolDCCP }
	if ports && len(k.Protocols) > 0 && !slices.ContainsFunc(k.Protocols, hasPorts) {
		return usagef("--protocol %s: has no ports, and ports are asked for", policy.ProtocolName(k.Protocols[0]))
	}
	isTCP := func(s flowState) bool { return s.mask == 0 }
	if len(f.states) > 0 && len(k.Protocols) > 0 && !slices.Contains(k.Protocols, conntrack.ProtocolTCP) && !slices.ContainsFunc(f.states, func(s flowState) bool { return !isTCP(s) }) {
		return usagef("--state %s: is a state of tcp, and --protocol leaves that out", conntrack.TCPStates()[f.states[0].tcp])
	}
	for _, a := range []struct {
		flag string
		list []prefix
	}{{"source", k.Sources}, {"destination", k.Destinations}} {
		family := func(p prefix) bool {
			return slices.Contains(k.Families, conntrack.IPv4) && p.Addr().Is4() || slices.Contains(k.Families, conntrack.IPv6) && p.Addr().Is6()
		}
		if len(k.Families) > 0 && len(a.list) > 0 && !slices.ContainsFunc(a.list, family) {
			return usagef("--%s %s: is not of the --family that is asked for", a.flag, prefixText(a.list[0]))
		}
	}
	return nil
}

// push moves into the kernel's filter what that has words for.
func (f *flowFilter) push() {
	k := &f.kernel
	if len(f.marks) == 1 {
		k.Mark, k.MarkMask = f.marks[0].value, f.marks[0].mask
		f.marks = nil
	}
	statuses, tcp := 0, []conntrack.State{}
	for _, s := range f.states {
		if s.mask == 0 {
			tcp = append(tcp, s.tcp)
		} else {
			statuses++
		}
	}
	switch {
	case len(f.states) == 0:
		return
	case statuses == 0:
		k.States = tcp
	case len(f.states) == 1:
		k.Status, k.StatusMask = f.states[0].status, f.states[0].mask
	default:
		return // alternatives, which the kernel's filter cannot say
	}
	f.states = nil
}

// judged says whether a flow has to be judged by the policy before it is known
// to fit.
func (f *flowFilter) judged() bool {
	return len(f.zones)+len(f.from)+len(f.to)+len(f.entries) > 0
}

// matchesRest says whether a flow that conntrack.List has handed over fits by
// the rest of what it tells itself.
func (f *flowFilter) matchesRest(c *conntrack.Flow) bool {
	return (len(f.ports) == 0 || slices.ContainsFunc(f.ports, func(r conntrack.PortRange) bool {
		in := func(port uint16) bool { return r.Low <= port && port <= r.High }
		return in(c.Original.SourcePort) || in(c.Original.DestinationPort) || in(c.Reply.SourcePort) || in(c.Reply.DestinationPort)
	})) &&
		(len(f.states) == 0 || slices.ContainsFunc(f.states, func(s flowState) bool {
			if s.mask == 0 {
				return c.Protocol == conntrack.ProtocolTCP && c.State == s.tcp
			}
			return c.Status&s.mask == s.status
		})) &&
		(len(f.marks) == 0 || slices.ContainsFunc(f.marks, func(m markBits) bool { return c.Mark&m.mask == m.value }))
}

// matchesPolicy says whether a flow fits by what the policy tells of it.
func (f *flowFilter) matchesPolicy(j *flows.Judgement) bool {
	return (len(f.zones) == 0 || slices.Contains(f.zones, j.From) || slices.Contains(f.zones, j.To)) &&
		(len(f.from) == 0 || slices.Contains(f.from, j.From)) &&
		(len(f.to) == 0 || slices.Contains(f.to, j.To)) &&
		(len(f.entries) == 0 || slices.Contains(f.entries, j.Origin.Entry))
}
