package main

import (
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// resolve finds the zones and entries that the filter names in the policy that
// was applied last; nil is none.
func (f *flowFilter) resolve(p *policy.Policy) error {
	for _, flag := range []struct {
		name  string
		zones []string
	}{{"zone", f.zones}, {"from", f.from}, {"to", f.to}} {
		for _, zone := range flag.zones {
			if zone == "" || zone == flows.Gateway {
				continue
			}
			if p == nil {
				return usagef("--%s %s: no policy was applied here, so that there are no zones", flag.name, zone)
			}
			if p.Zone(zone) == nil {
				return usagef("--%s %s: %s", flag.name, zone, unknownName("zone", zone, zoneNames(p)))
			}
		}
	}
	names := entryNames(p)
	for i, text := range f.entries {
		if text == "" {
			continue
		}
		if p == nil {
			return usagef("--entry %s: no policy was applied here, so that there are no entries", shownValue(text))
		}
		entry, err := findEntry(text, names)
		if err != nil {
			return err
		}
		f.entries[i] = entry
	}
	return nil
}

// findEntry finds the entry that a text names: section and name, or the name
// alone.
func findEntry(text string, names []string) (string, error) {
	if slices.Contains(names, text) {
		return text, nil
	}
	if strings.Contains(text, " ") {
		return "", usagef("--entry %s: %s", shownValue(text), unknownName("entry", text, names))
	}
	var found, short []string
	for _, n := range names {
		_, name, _ := strings.Cut(n, " ")
		if name == text {
			found = append(found, n)
		}
		short = append(short, name)
	}
	switch len(found) {
	case 0:
		return "", usagef("--entry %s: %s", text, unknownName("entry", text, short))
	case 1:
		return found[0], nil
	}
	return "", usagef("--entry %s: there are several: %s", text, strings.Join(found, ", "))
}

func unknownName(what, name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return "the policy that was applied last has no such " + what + "; did you mean " + shownValue(near) + "?"
	}
	return "the policy that was applied last has no such " + what
}

func zoneNames(p *policy.Policy) []string {
	out := make([]string, 0, len(p.Zones))
	for i := range p.Zones {
		out = append(out, p.Zones[i].Name)
	}
	return out
}

// entryNames are the entries that may have let a flow pass or translated it.
func entryNames(p *policy.Policy) []string {
	if p == nil {
		return nil
	}
	var out []string
	for i := range p.OneToOne {
		out = append(out, "one_to_one "+p.OneToOne[i].Name)
	}
	for i := range p.SNAT {
		out = append(out, "snat "+p.SNAT[i].Name)
	}
	for i := range p.Masquerade {
		out = append(out, "masquerade "+p.Masquerade[i].Name)
	}
	for i := range p.PortForward {
		out = append(out, "port_forward "+p.PortForward[i].Name)
	}
	for i := range p.Redirect {
		out = append(out, "redirect "+p.Redirect[i].Name)
	}
	rules := func(section string, f *policy.Forward) {
		for i := range f.Rules {
			out = append(out, section+" "+f.Rules[i].Name)
		}
		out = append(out, section+" default")
	}
	rules("forward", &p.Forward)
	if p.Input != nil {
		rules("input", p.Input)
	}
	slices.Sort(out)
	return slices.Compact(out) // a rule may be called default
}
