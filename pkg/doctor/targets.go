package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// target is where an entry of the policy leads. An address and port that several
// entries lead to stands here once, with the first of them.
type target struct {
	entry    string
	place    policy.Place
	address  netip.Addr
	port     uint16 // 0: any
	protocol uint8
}

// mostTargets are looked at.
const mostTargets = 10_000

// targets are those of port_forward and of one_to_one's single addresses.
func (h *Host) targets() (out []target) {
	if h.Policy == nil {
		return nil
	}
	type key struct {
		address  netip.Addr
		port     uint16
		protocol uint8
	}
	seen := map[key]bool{}
	add := func(t target) {
		k := key{t.address, t.port, t.protocol}
		if len(out) < mostTargets && !seen[k] {
			seen[k] = true
			out = append(out, t)
		}
	}
	for i := range h.Policy.PortForward {
		f := &h.Policy.PortForward[i]
		entry := "port_forward " + f.Name
		if f.Map != nil {
			for _, l := range f.Map.Lines {
				port := l.ToFirst
				if port == 0 {
					port = l.First
				}
				add(target{entry, h.Policy.PlaceOf(l), l.Addr, port, l.Protocol})
			}
			continue
		}
		for _, t := range f.AllTargets() {
			for _, p := range f.Protocols {
				port := t.First
				if port == 0 && len(f.Ports) > 0 {
					port = f.Ports[0].First
				}
				add(target{entry, f.Place, t.Addr, port, p.Number})
			}
		}
	}
	for i := range h.Policy.OneToOne {
		if o := &h.Policy.OneToOne[i]; o.Inside.IsSingleIP() {
			add(target{"one_to_one " + o.Name, o.Place, o.Inside.Addr(), 0, 0})
		}
	}
	return out
}

// hosts are the targets, one for each address.
func (h *Host) hosts() []target {
	seen := map[netip.Addr]bool{}
	return slices.DeleteFunc(h.targets(), func(t target) bool {
		again := seen[t.address]
		seen[t.address] = true
		return again
	})
}

// neighbour is what is known of an address that is reached directly.
func (h *Host) neighbor(a netip.Addr) *link.Neighbor {
	for i := range h.Flows.Neighbors {
		if n := &h.Flows.Neighbors[i]; n.Address == a {
			return n
		}
	}
	return nil
}

func neighborText(n *link.Neighbor) string {
	if n.MAC == "" {
		return fmt.Sprintf("neighbour table: %s on %s is %s", n.Address, n.Interface, n.State)
	}
	return fmt.Sprintf("neighbour table: %s on %s is %s, %s", n.Address, n.Interface, n.State, n.MAC)
}

// unrouted says that the host has no way to an address, and why.
func (h *Host) unrouted(a netip.Addr) (string, bool) {
	switch kind := h.routes().Kind(a); kind {
	case link.KindLocal, link.KindBroadcast, link.KindMulticast:
		return "", false
	case link.KindBlackhole, link.KindUnreachable, link.KindProhibit:
		if len(h.routes().Leaves(a)) == 0 {
			return "routes: " + map[uint32]string{link.KindBlackhole: "a blackhole", link.KindUnreachable: "none, or an unreachable one,", link.KindProhibit: "a prohibit route"}[kind] + " for " + a.String(), true
		}
	}
	if len(h.routes().Leaves(a)) == 0 {
		return "routes: none leads to " + a.String(), true
	}
	return "", false
}
