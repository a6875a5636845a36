package policytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Seen is what became of a packet, as far as it can be seen from outside.
type Seen struct {
	Verdict simulate.Verdict
	To      string // zone or gateway
	Out     string // the interface that it left by
	Left    simulate.Ends
}

// Kernel sends packets through a real kernel.
type Kernel interface {
	// Fresh begins with a gateway that has seen nothing.
	Fresh() error
	// Send takes the packet as simulation has completed it.
	Send(p simulate.Packet) (Seen, error)
}

// Result is what became of a test.
type Result struct {
	Test    *Test
	Packets []PacketResult
	Took    time.Duration
}

// Failed says whether something was not as expected.
func (r *Result) Failed() bool {
	return slices.ContainsFunc(r.Packets, func(p PacketResult) bool { return len(p.Differences) > 0 })
}

// PacketResult is what became of a packet.
type PacketResult struct {
	Packet    Packet
	Simulated *simulate.Outcome
	// Kernel is what the kernel made of it, where it was asked.
	Kernel *Seen
	// Differences are what was not as expected.
	Differences []Difference
	// Disputed is what the kernel made of it and the simulation did not, expected
	// or not: one of the two is wrong, or the packet met what is not simulated.
	Disputed []Dispute
}

// Dispute is a field in which the simulation and the kernel differ.
type Dispute struct{ Field, Simulated, Kernel string }

// Difference is a field that was not as expected. By is who found it: the
// simulation, the kernel, or both where they agree.
type Difference struct {
	policy.Place
	Field, Expected, Got string
	By                   By
}

// By is who says what became of a packet.
type By string

// Who says so.
const (
	BySimulation By = "simulation"
	ByKernel     By = "kernel"
	ByBoth       By = "both"
)

// Run runs the tests. Kernel may be nil: then there is only simulation.
func (g *Gateway) Run(kernel Kernel) ([]Result, error) {
	var out []Result
	for i := range g.File.Tests {
		t := &g.File.Tests[i]
		start := time.Now()
		if kernel != nil {
			if err := kernel.Fresh(); err != nil {
				return out, fmt.Errorf("%s: %s: %w", t.Place, t.Name, err)
			}
		}
		r := Result{Test: t}
		for _, p := range t.Packets {
			pr, err := g.packet(t, p, kernel)
			if err != nil {
				return out, fmt.Errorf("%s: %s: %w", p.Place, t.Name, err)
			}
			r.Packets = append(r.Packets, pr)
		}
		r.Took = time.Since(start)
		out = append(out, r)
	}
	return out, nil
}

func (g *Gateway) packet(t *Test, p Packet, kernel Kernel) (PacketResult, error) {
	o, err := g.simulated.Send(p.Packet)
	if err != nil {
		return PacketResult{}, err
	}
	r := PacketResult{Packet: p, Simulated: o}
	seen := Seen{o.Verdict, o.To, o.Out, o.Left}
	r.Differences = slices.Concat(t.Expect.compare(o.Arrived, seen), t.Expect.chosen(o), t.Expect.unseen(o))
	if kernel == nil {
		for i := range r.Differences {
			r.Differences[i].By = BySimulation
		}
		return r, nil
	}
	k, err := kernel.Send(o.Packet)
	if err != nil {
		return r, err
	}
	switch k.Verdict {
	case simulate.Forwarded:
		k.To = g.zones.Of(k.Out, k.Left.Destination)
	case simulate.Delivered:
		k.To = flows.Gateway
	}
	r.Kernel, r.Disputed = &k, disputed(o, k)
	r.Differences = joinDifferences(r.Differences, t.Expect.compare(o.Arrived, k))
	return r, nil
}

// disputed compares the simulation with the kernel. What the kernel chooses is
// nothing to differ about, nor is where a packet goes that has got a mark: the
// simulation does not know the routes that marks lead to.
func disputed(o *simulate.Outcome, k Seen) []Dispute {
	var out []Dispute
	differ := func(field, simulated, kernel string) {
		if simulated != kernel {
			out = append(out, Dispute{field, orNone(simulated), orNone(kernel)})
		}
	}
	differ("verdict", string(o.Verdict), string(k.Verdict))
	if len(out) > 0 || !passed(k.Verdict) || o.Mark != o.Packet.Mark {
		return out
	}
	chosen := map[simulate.Chosen]bool{}
	for _, c := range o.Choices {
		chosen[c.What] = chosen[c.What] || !c.Kept
	}
	differ("to", o.To, k.To)
	if k.Verdict == simulate.Forwarded {
		differ("interface", o.Out, k.Out)
	}
	if !chosen[simulate.SourceAddress] {
		differ("source", o.Left.Source.String(), k.Left.Source.String())
	}
	if !chosen[simulate.SourcePort] && !chosen[simulate.SourceAddress] {
		differ("source_port", strconv.Itoa(int(o.Left.SourcePort)), strconv.Itoa(int(k.Left.SourcePort)))
	}
	if !chosen[simulate.Target] {
		differ("destination", o.Left.Destination.String(), k.Left.Destination.String())
	}
	if !chosen[simulate.TargetPort] && !chosen[simulate.Target] {
		differ("port", strconv.Itoa(int(o.Left.DestinationPort)), strconv.Itoa(int(k.Left.DestinationPort)))
	}
	return out
}

// joinDifferences marks who found what.
func joinDifferences(simulated, kernel []Difference) []Difference {
	var out []Difference
	for _, d := range simulated {
		d.By = BySimulation
		i := slices.IndexFunc(kernel, func(k Difference) bool { return k.Field == d.Field && k.Got == d.Got })
		if i >= 0 {
			d.By = ByBoth
			kernel = slices.Delete(slices.Clone(kernel), i, i+1)
		}
		out = append(out, d)
	}
	for _, d := range kernel {
		d.By = ByKernel
		out = append(out, d)
	}
	return out
}

// passed says whether a verdict is one of those that let a packet on.
func passed(v simulate.Verdict) bool { return v == simulate.Forwarded || v == simulate.Delivered }

// compare looks at what can be seen from outside. Where the verdict is another
// one, nothing else is said.
func (e *Expect) compare(before simulate.Ends, got Seen) []Difference {
	switch {
	case e.Verdict == "" && !passed(got.Verdict):
		return []Difference{{Place: e.Place, Field: "verdict", Expected: "accept or local", Got: string(got.Verdict)}}
	case e.Verdict != "" && e.Verdict != got.Verdict:
		return []Difference{{Place: e.at.of("verdict", e.Place), Field: "verdict", Expected: string(e.Verdict), Got: string(got.Verdict)}}
	case !passed(got.Verdict):
		return nil
	}
	var out []Difference
	differ := func(field, expected, found string) {
		out = append(out, Difference{Place: e.at.of(field, e.Place), Field: field, Expected: expected, Got: found})
	}
	if e.To != "" && e.To != got.To {
		differ("to", e.To, orNone(got.To))
	}
	if e.Interface != "" && e.Interface != got.Out {
		differ("interface", e.Interface, orNone(got.Out))
	}
	address := func(field string, want Addresses, got, before netip.Addr) {
		if !want.has(got, before) {
			differ(field, expectedSame(want.String(), before.String()), got.String())
		}
	}
	port := func(field string, want Ports, got, before uint16) {
		if !want.has(got, before) {
			differ(field, expectedSame(want.String(), strconv.Itoa(int(before))), strconv.Itoa(int(got)))
		}
	}
	address("source", e.Source, got.Left.Source, before.Source)
	port("source_port", e.SourcePort, got.Left.SourcePort, before.SourcePort)
	address("destination", e.Destination, got.Left.Destination, before.Destination)
	port("port", e.Port, got.Left.DestinationPort, before.DestinationPort)
	return out
}

func expectedSame(want, before string) string {
	if want == same {
		return same + " (" + before + ")"
	}
	return want
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// unseen looks at what only the rules tell.
func (e *Expect) unseen(o *simulate.Outcome) []Difference {
	var out []Difference
	took := Took(o)
	for _, x := range e.Entries {
		if !slices.Contains(took, x.Name) {
			out = append(out, Difference{Place: x.Place, Field: "entry", Expected: x.Name, Got: orNone(strings.Join(took, ", "))})
		}
	}
	if m := e.Mark; m != nil && o.Mark&m.Mask != m.Value && passed(o.Verdict) {
		out = append(out, Difference{Place: m.Place, Field: "mark", Expected: m.String(), Got: fmt.Sprintf("%#x", o.Mark)})
	}
	return out
}

// Took names the entries that had a part in what became of a packet: the one
// that decided, and those that translated. A section that decided for all of
// its entries is none.
func Took(o *simulate.Outcome) []string {
	var out []string
	add := func(by *ruleset.Origin) {
		if by != nil && strings.Contains(by.Entry, " ") && !slices.Contains(out, by.Entry) {
			out = append(out, by.Entry)
		}
	}
	add(&o.By)
	add(o.DNAT.Origin)
	add(o.SNAT.Origin)
	return out
}
