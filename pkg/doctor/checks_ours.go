package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// rulesMissing is about a policy that was applied and is not in force.
func rulesMissing(h *Host) []Finding {
	if h.Status == nil || h.Given || h.Applied == nil || h.Status.InForce {
		return nil
	}
	whose := "# who does that: `nft flush ruleset`, which nftables.service runs when it starts or stops"
	switch h.Status.Backend {
	case "iptables-nft":
		whose += "; or iptables-restore without --noflush"
	case "iptables-legacy":
		whose = "# who does that: iptables-restore without --noflush, as netfilter-persistent runs it when it starts, or a script with iptables -F"
	}
	return []Finding{{
		Severity: Broken, Weight: 950,
		Title:    "the rules of ipmasq are gone: somebody has removed " + h.place(),
		Evidence: []string{fmt.Sprintf("nothing of the policy that was applied %s is in the kernel", h.Status.Applied.UTC().Format("2006-01-02 15:04:05 MST"))},
		Mend:     append(h.applyAgain("# ipmasq apply, with the policy's files"), whose+"; ipmasq run puts the rules back by itself"),
	}}
}

// hostHasChanged says that the rules are what was applied, and would be others
// today: they know the host's addresses.
func (h *Host) hostHasChanged() bool {
	return h.Status != nil && !h.Given && h.Status.InForce && h.Status.Drift != nil && !h.Status.Drift.Empty() &&
		h.State.State.Rules != "" && h.Status.Drift.From.Digest() == h.State.State.Rules
}

// rulesBehind is about rules that were made for a host as it is no longer.
func rulesBehind(h *Host) []Finding {
	if !h.hostHasChanged() {
		return nil
	}
	changed, what := changedChains(h.Status.Drift), "the links or addresses of the host"
	if !slices.ContainsFunc(changed, func(name string) bool { return !strings.HasSuffix(name, " DOCKER-USER") }) {
		what = "Docker's chains"
	}
	return []Finding{{
		Severity: Risk, Weight: 620,
		Title:    what + " are others than when the policy was applied, and the rules would be too",
		Evidence: []string{"would be others now: " + strings.Join(shortened(changed, 8), ", ")},
		Mend:     append(h.applyAgain("# ipmasq apply, with the policy's files"), "# ipmasq run does that by itself"),
	}}
}

// rulesDrifted is about rules that somebody has changed.
func rulesDrifted(h *Host) []Finding {
	if h.Status == nil || h.Given || !h.Status.InForce || h.Status.Drift == nil || h.Status.Drift.Empty() {
		return nil
	}
	if h.hostHasChanged() || h.displaced(h.Status.Drift) {
		return nil
	}
	var evidence []string
	structural := false
	for _, e := range h.Status.Drift.Entries() {
		if e.Structural() {
			structural = true
			continue
		}
		name := e.Name()
		if e.Entry == "" {
			name = "a rule of no entry"
		}
		what := map[byte]string{'+': "is missing in the kernel", '-': "is in the kernel, and in no policy", '~': "is not as applied"}[e.Sign]
		evidence = append(evidence, strings.Join(slices.DeleteFunc([]string{name, e.Place.String(), what, "(" + e.Detail() + ")"}, func(s string) bool { return s == "" }), " "))
	}
	evidence = shortened(evidence, 8)
	if structural || len(evidence) == 0 {
		evidence = append(evidence, "not as applied: "+strings.Join(shortened(changedChains(h.Status.Drift), 8), ", "))
	}
	whose := "# nothing else belongs in the table inet ipmasq; `nft monitor` shows who changes it"
	if h.Status.Backend != "nftables" {
		whose = "# nothing else belongs in the chains IPMASQ-..., nor before the jumps to them; whoever inserts rules first has to append them"
	}
	return []Finding{{
		Severity: Broken, Weight: 940,
		Title:    "somebody has changed the rules of ipmasq: they are not what was applied",
		Evidence: evidence,
		Mend:     append(h.applyAgain("# ipmasq apply, with the policy's files"), whose),
	}}
}

// place is where the rules are.
func (h *Host) place() string {
	if h.Status == nil {
		return placeOf("nftables")
	}
	return placeOf(h.Status.Backend)
}

func placeOf(backend string) string {
	if backend == "nftables" {
		return "the table inet ipmasq"
	}
	return "the chains IPMASQ-* of " + backend
}

// rulesElsewhere is about rules of ipmasq's in a second place.
func rulesElsewhere(h *Host) []Finding {
	if h.Status == nil || len(h.Status.Left) == 0 || h.Applied == nil && !h.Status.InForce {
		return nil // foreignRules tells where nothing was applied
	}
	f := Finding{
		Severity: Risk, Weight: 700,
		Title: "rules of ipmasq's are left in " + strings.Join(h.Status.Left, " and ") + ": what passes has to pass them too",
		Mend:  h.applyAgain("# ipmasq apply, with the policy's files"),
	}
	if h.Status.InForce {
		f.Evidence = []string{"the policy is in " + h.place()}
	} else {
		f.Evidence = []string{"nothing that was applied is in force"}
	}
	return []Finding{f}
}

// changedChains names the chains and sets that differ.
func changedChains(c *plan.Changes) (out []string) {
	add := func(what string, from, to int, name func(side *plan.Snapshot, i int) string) {
		side, i := c.From, from
		if to >= 0 {
			side, i = c.To, to
		}
		if i >= 0 {
			out = append(out, what+" "+name(side, i))
		}
	}
	for _, x := range c.Chains {
		add("chain", x.From, x.To, func(s *plan.Snapshot, i int) string { return s.Chains[i].Name })
	}
	for _, x := range c.Sets {
		add("set", x.From, x.To, func(s *plan.Snapshot, i int) string { return s.Sets[i].Name })
	}
	if len(out) == 0 {
		out = []string{"objects, as counters or flowtables"}
	}
	return out
}

// entryStopped is about entries whose translation leads to where our own rules
// stop it.
func entryStopped(h *Host) (out []Finding) {
	var seen []string
	examples := h.passages()
	for i := range examples {
		x := &examples[i]
		o := x.out
		stopped := o.Verdict == simulate.Dropped || o.Verdict == simulate.Rejected
		if !stopped || o.DNAT.Kind == ruleset.Continue || o.DNAT.Origin == nil || o.DNAT.Origin.Entry != x.entry || slices.Contains(seen, x.entry) {
			continue
		}
		seen = append(seen, x.entry)
		f := Finding{
			Severity: Broken, Weight: 700,
			Title: fmt.Sprintf("%s leads to %s, and the policy's own %s stops it", x.entry, portText(o.Left.Destination, o.Left.DestinationPort), o.By.Entry),
			Evidence: []string{
				fmt.Sprintf("%s (%s) translates %s to %s", x.entry, x.place, portText(o.Arrived.Destination, o.Arrived.DestinationPort), portText(o.Left.Destination, o.Left.DestinationPort)),
				strings.TrimSpace(fmt.Sprintf("it is dropped at the hook %s by %s %s", o.EndedAt, o.By.Entry, o.By.Place)),
			},
			Mend: []string{"# let it pass there, in the policy"},
		}
		if o.EndedAt == ruleset.Input {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s is the gateway itself, so that `input` decides", o.Left.Destination))
			f.Mend = []string{fmt.Sprintf("# add to `input` in the policy, and apply: rules: [{from: %s, protocol: %s, ports: %d, action: accept}]", o.Packet.From, protocolName(o.Packet.Protocol), o.Left.DestinationPort)}
		}
		out = append(out, f)
	}
	return out
}
