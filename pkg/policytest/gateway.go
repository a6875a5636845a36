package policytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Gateway is a policy on the host that a test file describes.
type Gateway struct {
	File   *File
	Policy *policy.Policy // with its zones resolved
	Host   *link.Host
	Routes *link.Routes
	// Warnings are about the policy on this host.
	Warnings policy.Errors

	simulated *simulate.Gateway
	zones     *flows.Zones
}

// Gateway reads the policy that a file is about, makes its host up, and looks
// whether the tests fit to both. Mistakes come back as [*Invalid].
func (f *File) Gateway() (*Gateway, error) {
	p, err := policy.Load(f.Policies, policy.LoadOptions{})
	if err != nil {
		if p == nil || !isMistakes(err) {
			return nil, within(policy.Errors{{Place: f.PoliciesAt, Message: err.Error() + f.policyHint()}}, f.Sources)
		}
		return nil, within(err, p.Sources)
	}
	sources := slices.Concat(f.Sources, p.Sources)
	host, err := f.Host.Build(p)
	if err != nil {
		return nil, within(err, sources)
	}
	routes, err := host.Read()
	if err != nil {
		return nil, within(policy.Errors{{Place: f.hostAt(), Message: err.Error()}}, sources)
	}
	facts := engine.CompileFacts(routes.Facts)
	compiled, err := compile.Compile(p, facts)
	if err != nil {
		return nil, within(err, sources)
	}
	g := &Gateway{File: f, Policy: facts.Resolve(p), Host: host, Routes: routes, Warnings: compiled.Warnings}
	g.simulated, g.zones = simulate.New(compiled.Ruleset, g.Policy, routes.Facts, routes), flows.ZonesOf(g.Policy)
	if errs := g.check(); len(errs) > 0 {
		errs.Sort()
		return nil, within(errs, sources)
	}
	return g, nil
}

// policyHint is for a file whose name alone tells its policy.
func (f *File) policyHint() string {
	if f.PoliciesAt == (policy.Place{File: f.Name, Line: 1, Column: 1}) {
		return "; `policy` says which file the tests are of"
	}
	return ""
}

func isMistakes(err error) bool {
	var errs policy.Errors
	return errors.As(err, &errs)
}

func (f *File) hostAt() policy.Place {
	if f.Host != nil {
		return f.Host.Place
	}
	return f.PoliciesAt
}

// check finds what tests name and the policy does not have, and packets that
// cannot be sent.
func (g *Gateway) check() policy.Errors {
	var errs policy.Errors
	fail := func(at policy.Place, message string) {
		if !slices.ContainsFunc(errs, func(e *policy.Error) bool { return e.Place == at && e.Message == message }) {
			errs = append(errs, &policy.Error{Place: at, Message: message})
		}
	}
	entries := g.names()
	for i := range g.File.Tests {
		t := &g.File.Tests[i]
		if to := t.Expect.To; to != "" && to != flows.Gateway && g.Policy.Zone(to) == nil {
			fail(t.Expect.at.of("to", t.Expect.Place), unknown("zone", to, append(g.zoneNames(), flows.Gateway)))
		}
		for _, e := range t.Expect.Entries {
			if !slices.Contains(entries, e.Name) {
				fail(e.Place, unknown("entry", e.Name, entries))
			}
		}
		for k := range t.Packets {
			p := &t.Packets[k]
			_, err := g.simulated.Send(p.Packet)
			var wrong *simulate.QuestionError
			switch {
			case errors.As(err, &wrong):
				fail(p.at.of(wrong.Field, p.Place), wrong.Message)
			case err != nil:
				fail(p.Place, err.Error())
			}
		}
	}
	return errs
}

func unknown(what, name string, known []string) string {
	message := fmt.Sprintf("the policy has no %s %q", what, name)
	if near := policy.Nearest(name, known); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near)
	}
	const most = 12
	if len(known) <= most {
		return message + "; it has " + strings.Join(known, ", ")
	}
	return message
}

func (g *Gateway) zoneNames() []string {
	out := make([]string, 0, len(g.Policy.Zones))
	for _, z := range g.Policy.Zones {
		out = append(out, z.Name)
	}
	return out
}

// defaults are what decides where no entry does.
func defaults(p *policy.Policy) []string {
	out := []string{"forward default"}
	if p.Input != nil {
		out = append(out, "input default")
	}
	return out
}

// names are all that can be said to have decided of a packet.
func (g *Gateway) names() []string {
	var out []string
	for _, e := range Entries(g.Policy) {
		out = append(out, e.Entry)
	}
	out = append(out, defaults(g.Policy)...)
	if len(g.Policy.Redirect) > 0 {
		out = append(out, "closed redirect ports")
	}
	for _, z := range g.Policy.Zones {
		if z.Antispoof {
			out = append(out, "antispoof "+z.Name)
		}
	}
	return out
}

// Entries are the entries of a policy, section by section.
func Entries(p *policy.Policy) []ruleset.Origin {
	var out []ruleset.Origin
	add := func(section, name string, at policy.Place) {
		out = append(out, ruleset.Origin{Entry: section + " " + name, Place: ruleset.Place(at)})
	}
	for i := range p.Masquerade {
		add("masquerade", p.Masquerade[i].Name, p.Masquerade[i].Place)
	}
	for i := range p.SNAT {
		add("snat", p.SNAT[i].Name, p.SNAT[i].Place)
	}
	for i := range p.OneToOne {
		add("one_to_one", p.OneToOne[i].Name, p.OneToOne[i].Place)
	}
	for i := range p.PortForward {
		add("port_forward", p.PortForward[i].Name, p.PortForward[i].Place)
	}
	for i := range p.Redirect {
		add("redirect", p.Redirect[i].Name, p.Redirect[i].Place)
	}
	for i := range p.Forward.Rules {
		add("forward", p.Forward.Rules[i].Name, p.Forward.Rules[i].Place)
	}
	if p.Input != nil {
		for i := range p.Input.Rules {
			add("input", p.Input.Rules[i].Name, p.Input.Rules[i].Place)
		}
	}
	return out
}
