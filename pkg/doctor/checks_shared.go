package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// shared lists the chains of iptables in which rules of others come before those
// that lead to ours.
func (h *Host) shared() (out []*foreign.Chain) {
	if h.Rules.Foreign == nil {
		return nil
	}
	for _, t := range h.Rules.Foreign.Tables {
		for _, c := range t.Chains {
			if c.Displaced() {
				out = append(out, c)
			}
		}
	}
	return out
}

// displaced says that nothing but the place of our jumps differs: others have put
// rules before them.
func (h *Host) displaced(c *plan.Changes) bool {
	if len(c.Chains) == 0 || len(c.Sets)+len(c.Counters)+len(c.Objects) > 0 {
		return false
	}
	var names []string // as the backend has them: "ipv4 filter FORWARD"
	for _, x := range h.shared() {
		family := map[string]string{"ip": "ipv4", "ip6": "ipv6"}[x.Table().Family]
		names = append(names, family+" "+x.Table().Name+" "+x.Name)
	}
	return !slices.ContainsFunc(c.Chains, func(x plan.ChainChange) bool {
		return x.From < 0 || x.To < 0 || !slices.Contains(names, c.From.Chains[x.From].Name)
	})
}

// first says that it is decided before our rules are asked.
func (s *stop) first() bool {
	before := s.chain.Before()
	return before != nil && before.Walk(s.seenBy(s.chain, s.answer)).Stopped() != nil
}

// acceptedFirst is the rule by which a chain accepts a packet for sure before ours
// are asked, or nil.
func acceptedFirst(c *foreign.Chain, p *foreign.Packet) *foreign.Decision {
	before := c.Before()
	if before == nil {
		return nil
	}
	before.Drops = true // what no rule decides
	if o := before.Walk(p); o.MayStop() == nil && o.DNAT == nil && o.SNAT == nil && !o.Unknown {
		return o.Accept
	}
	return nil
}

// foreignFirst is about rules of others that come before ours in a chain of
// iptables that we share: of what they accept, drop or translate ours are not asked.
func foreignFirst(h *Host) (out []Finding) {
	for _, c := range h.shared() {
		before := c.Before()
		if before == nil {
			out = append(out, h.askedFirst(c))
			continue
		}
		whose, at := owners(before), program("").chain(c)
		f := Finding{Severity: Note, Weight: 320, Title: fmt.Sprintf("%s come before those of ipmasq in %s", rulesOf(whose), at)}
		if before.Decides() {
			f.Severity, f.Weight = Risk, 615
			f.Title += ": what they accept or drop, the policy is not asked about"
			if c.Type == "nat" {
				f.Weight--
				f.Title = strings.Replace(f.Title, "accept or drop", "accept or translate", 1)
			}
		}
		var stopped, led []string
		examples := h.filterable()
		for i := range examples {
			x := &examples[i]
			if !x.passes() || x.out.Arrived.Source.Is6() != (c.Table().Family == "ip6") {
				continue
			}
			list := &stopped
			what := h.stoppedFirst(x, c)
			if c.Type == "nat" {
				list, what = &led, ledFirst(x, c)
			}
			if what != "" {
				if !slices.Contains(*list, what) {
					*list = append(*list, what)
				}
			}
		}
		switch {
		case len(stopped) > 0:
			f.Severity, f.Weight = Broken, 885
			f.Title = fmt.Sprintf("%s in %s drop what the policy lets pass, before ipmasq is asked", rulesOf(whose), at)
		case len(led) > 0:
			f.Severity, f.Weight = Broken, 875
			f.Title = fmt.Sprintf("%s in %s decide about what the policy translates, before ipmasq is asked", rulesOf(whose), at)
		}
		var rules []string
		for i := range before.Rules {
			rules = append(rules, decided(before, &foreign.Decision{Chain: before, Rule: &before.Rules[i]}))
		}
		f.Evidence = slices.Concat(shortened(rules, 8), shortened(stopped, 4), shortened(led, 4))
		f.Evidence = append(f.Evidence, fmt.Sprintf("what leads to ipmasq's rules there is rule %d, and is to be rule 1", len(before.Rules)+1))
		f.Mend = h.toTheFront(c)
		out = append(out, f)
	}
	return out
}

// askedFirst is about a chain where ours are asked first by way of a chain of
// others, such as DOCKER-USER, wherever our own jump stands.
func (h *Host) askedFirst(c *foreign.Chain) Finding {
	return Finding{
		Severity: Note, Weight: 320,
		Title:    fmt.Sprintf("rules of others come before those of ipmasq in %s; %s, which they begin with, asks ipmasq first all the same", program("").chain(c), c.Rules[0].To),
		Evidence: []string{decided(c, &foreign.Decision{Chain: c, Rule: &c.Rules[0]}), fmt.Sprintf("what leads to ipmasq's rules there is rule %d, and is to be rule 1", c.Behind()-1)},
		Mend:     h.applyAgain("# ipmasq apply, with the policy's files"),
	}
}

// ledFirst says that a chain of nat decides about an example before our rules, which
// translate it, are asked; or "".
func ledFirst(x *passage, c *foreign.Chain) string {
	before := c.Before()
	if before == nil || c.Type != "nat" {
		return ""
	}
	p := x.at(c.Hook, false, false)
	o := before.Walk(p)
	certain := o.Accept == nil || acceptedFirst(c, p) != nil
	switch {
	case c.Hook == foreign.Prerouting && x.out.DNAT.Kind != ruleset.Continue && certain:
		return fmt.Sprintf("%s (%s) is for %s %s", x.entry, x.place, protocolName(x.out.Packet.Protocol), portText(x.out.Arrived.Destination, x.out.Arrived.DestinationPort))
	case c.Hook == foreign.Postrouting && x.out.SNAT.Origin != nil && certain && (x.out.SNAT.Kind == ruleset.SNAT || o.SNAT == nil): // two masquerades give the same address
		return fmt.Sprintf("%s (%s) would have it leave as %s", x.out.SNAT.Origin.Entry, x.out.SNAT.Origin.Place, x.out.SNAT.Address)
	}
	return ""
}

// stoppedFirst says that a chain stops an example, or its answer, before our rules
// are asked; or "".
func (h *Host) stoppedFirst(x *passage, c *foreign.Chain) string {
	for _, answer := range []bool{false, true} {
		if !slices.Contains(x.hooksOf(answer), c.Hook) || answer && c.Hook != foreign.Forward {
			continue
		}
		if s := (stop{x, c.Hook, c, nil, answer}); s.first() {
			if answer {
				return fmt.Sprintf("the answers to %s, %s", x.entry, s.text())
			}
			return fmt.Sprintf("%s (%s) lets pass %s", x.entry, x.place, s.text())
		}
	}
	return ""
}

// owners are the programs whose chains the rules of a chain lead to, as far as
// their names tell.
func owners(c *foreign.Chain) (out []program) {
	for i := range c.Rules {
		for _, x := range []struct {
			prefix string
			program
		}{{"DOCKER", docker}, {"ufw-", ufw}, {"ufw6-", ufw}, {"LIBVIRT_", libvirt}, {"KUBE-", kube}, {"f2b-", "fail2ban"}, {"ts-", "Tailscale"}} {
			if strings.HasPrefix(c.Rules[i].To, x.prefix) && !slices.Contains(out, x.program) {
				out = append(out, x.program)
			}
		}
	}
	return out
}

func rulesOf(whose []program) string {
	if len(whose) == 0 {
		return "rules of others"
	}
	var names []string
	for _, p := range whose {
		names = append(names, string(p)+"'s")
	}
	return strings.Join(names, " and ") + " rules"
}

// toTheFront is how our rules come first again, and stay there.
func (h *Host) toTheFront(c *foreign.Chain) []string {
	out := h.applyAgain("# ipmasq apply, with the policy's files")
	whose := owners(c.Before())
	if slices.Contains(whose, docker) {
		out = append(out, "# Docker puts its rules first whenever it starts; ipmasq run puts that right by itself")
		if c.Hook == foreign.Forward && h.Policy != nil && !h.Policy.Gateway.Docker {
			out = append(out, "# or write `gateway: {docker: accept}` into the policy: it is asked first then, wherever Docker puts its rules")
		}
	}
	if len(whose) == 1 && whose[0] == docker {
		return out
	}
	return append(out,
		fmt.Sprintf("# whoever makes them has to append them: %s -t %s -A %s", xtCommand(c.Table()), c.Table().Name, c.Name),
		fmt.Sprintf("# what is to be stopped whatever the policy says belongs where it accepts nothing: %s -t raw -A PREROUTING", xtCommand(c.Table())))
}
