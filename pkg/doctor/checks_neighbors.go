package doctor

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// fixedHop is the next hop of a default route that somebody has written down in
// the neighbour table, or nil.
func (h *Host) fixedHop() *link.Neighbor {
	for _, d := range h.facts().Defaults {
		uplink := slices.ContainsFunc(h.uplinkLinks(), func(l link.Link) bool { return l.Name == d.Interface })
		if n := h.neighbor(d.Gateway); uplink && n != nil && n.Interface == d.Interface && n.State&link.NeighborPermanent != 0 {
			return n
		}
	}
	return nil
}

// neighborFixed is about neighbours that were written down by hand, and of whom
// nobody hears anything: the MAC may be another machine's. Where there are answers,
// it is nobody's business.
func neighborFixed(h *Host) (out []Finding) {
	add := func(n *link.Neighbor, what string, flows []string) {
		out = append(out, Finding{
			Severity: Broken, Weight: 745,
			Title:    fmt.Sprintf("%s is written down in the neighbour table by hand, and %s", n.Address, what),
			Evidence: append([]string{neighborText(n) + ": the host asks nobody where it is"}, shortened(flows, 4)...),
			Mend:     []string{"# if it is not meant, or the machine has another MAC now:", fmt.Sprintf("ip neighbour delete %s dev %s", n.Address, n.Interface)},
		})
	}
	for _, x := range h.waitingTargets() {
		if n := h.neighbor(x.address); n != nil && n.State&link.NeighborPermanent != 0 {
			add(n, "does not answer what "+x.entry+" leads to it", x.flows)
		}
	}
	if n := h.fixedHop(); n != nil {
		for _, f := range h.silent() {
			add(n, "nothing that leaves by it is answered", f.Evidence)
			break
		}
	}
	return merged(out, 4)
}
