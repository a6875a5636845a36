package doctor

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// answersMarked is the priority behind which the packet's mark is as the symmetric
// zones have it, before any translation and routing.
const answersMarked = -150

// marksOverlap is about rules of others that set bits by which answers find the
// uplink that their flow came in by.
func marksOverlap(h *Host) (out []Finding) {
	if h.Compiled == nil || h.Rules.Foreign == nil || len(h.Compiled.Uplinks) == 0 {
		return nil
	}
	mask, taken := uint32(0), uint32(0)
	for _, u := range h.Compiled.Uplinks {
		mask |= u.Mask
	}
	for _, r := range h.facts().ForeignRules {
		taken |= r.Mask
	}
	for _, t := range h.Rules.Foreign.Tables {
		for _, c := range t.Chains {
			for i := range c.Rules {
				taken |= c.Rules[i].Marks | c.Rules[i].FlowMarks
			}
		}
	}
	for _, t := range h.Rules.Foreign.Tables {
		if t.Family == "bridge" || t.Family == "netdev" {
			continue
		}
		for _, c := range t.Chains {
			for i := range c.Rules {
				if r := &c.Rules[i]; (r.Marks|r.FlowMarks)&mask != 0 {
					out = append(out, h.markOverlap(c, r, mask, taken))
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return merged(out, 4)
}

func (h *Host) markOverlap(c *foreign.Chain, r *foreign.Rule, mask, taken uint32) Finding {
	x := Finding{Severity: Risk, Weight: 765, Evidence: []string{fmt.Sprintf("%s %s: %s", c.Table().Kind, c, r)}}
	of, bits := "packets", r.Marks&mask
	if bits == 0 {
		of, bits = "flows", r.FlowMarks&mask
	}
	x.Title = fmt.Sprintf("a rule of %s sets %#x of the mark of %s, by which answers leave by the uplink that they belong to", c, bits, of)
	for _, u := range h.Compiled.Uplinks {
		x.Evidence = append(x.Evidence, fmt.Sprintf("policy %s: zone %s has the mark %#x/%#x for %s", u.Place, u.Zone, u.Mark, u.Mask, u.Interface))
	}
	if h.marksAnswers(c, r, mask) {
		x.Severity = Broken
	}
	if free := freeBits(taken); free != 0 {
		for n, u := range zonesOnce(h.Compiled.Uplinks) {
			x.Mend = append(x.Mend, fmt.Sprintf("# write mark: %#x/%#x into `symmetric` of zone %s at %s, and apply", uint32(n+1)*(free&-free), free, u.Zone, u.Place))
		}
	}
	x.Mend = append(x.Mend, fmt.Sprintf("# or have that rule leave these bits alone: a mask without %#x, as in --set-xmark VALUE/MASK", bits))
	return x
}

// marksAnswers says that the rule is for answers that come to be routed, whatever
// else they are.
func (h *Host) marksAnswers(c *foreign.Chain, r *foreign.Rule, mask uint32) bool {
	if c.Hook != foreign.Prerouting || r.Marks&mask == 0 || c.Priority <= answersMarked {
		return false
	}
	passages := h.passages()
	for i := range passages {
		x := &passages[i]
		symmetric := slices.ContainsFunc(h.Compiled.Uplinks, func(u compile.Uplink) bool { return u.Interface == x.out.Packet.Interface })
		if !symmetric || x.out.Verdict != simulate.Forwarded {
			continue
		}
		p := x.at(foreign.Prerouting, true, false)
		p.Out = ""
		for _, u := range h.Compiled.Uplinks {
			if u.Interface == x.out.Packet.Interface {
				p.Mark = u.Mark
			}
		}
		if p.IPv6 != (c.Table().Family == "ip6") && c.Table().Family != "inet" {
			continue
		}
		if !slices.ContainsFunc(r.Tests, func(t foreign.Test) bool { return t.Holds(p) != foreign.Yes }) {
			return true
		}
	}
	return false
}

// freeBits finds four bits of a mark that nobody uses; 0: there are none.
func freeBits(taken uint32) uint32 {
	for bits := uint32(0xf00); bits != 0; bits <<= 4 {
		if taken&bits == 0 {
			return bits
		}
	}
	return 0
}

// zonesOnce are the uplinks, one for each zone.
func zonesOnce(list []compile.Uplink) []compile.Uplink {
	return slices.CompactFunc(slices.Clone(list), func(a, b compile.Uplink) bool { return a.Zone == b.Zone })
}
