package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

func snatFields() []field[SNAT] {
	return append(lift(translationFields(), func(s *SNAT) *Masquerade { return &s.Masquerade }), []field[SNAT]{
		{key: "addresses", about: "the pool of public addresses", value: poolShape, must: true,
			takes: "an address, a prefix, a range or a list of these", decode: func(d *decoder, n *node, s *SNAT) {
				s.Addresses = d.pool(n)
			}},
		{key: "distribution", about: "who gets which address of the pool: persistent keeps one for each inside host", value: distributionShape, preset: "persistent",
			takes: "persistent, kernel or round-robin", decode: func(d *decoder, n *node, s *SNAT) {
				s.Distribution = word(d, n, distributions(), []Distribution{Persistent, KernelChoice, RoundRobin})
			}},
		{key: "ports_per_host", about: "so many outside ports for each inside host, computed and not logged. Left out: not divided", value: portsPerHostShape,
			takes: "a number of ports, from 1 to 65535", decode: func(d *decoder, n *node, s *SNAT) {
				v, _ := d.number(n, 1, 65535)
				s.PortsPerHost = uint16(v)
			}},
	}...)
}

func distributions() []string { return []string{"persistent", "kernel", "round-robin"} }

func (d *decoder) snatSection(n *node, p *Policy) {
	table := snatFields()
	entries(d, n, &p.SNAT, func(n *node, at Place) (SNAT, bool) {
		s := SNAT{Masquerade: Masquerade{Place: at}}
		w, ok := fields(d, n, table, &s)
		if !ok {
			return s, false
		}
		requireAll(w, "a snat entry", table)
		if w.has("ports_per_host") && s.Distribution != Persistent {
			d.fail(w.place("distribution"), "`ports_per_host` computes the address of each host, so there is nothing to distribute; take one of them out",
				Note{w.place("ports_per_host"), "`ports_per_host` stands here"})
		}
		d.snats = append(d.snats, w.translation(&s.Masquerade))
		return s, true
	})
}

// pool decodes public addresses, each of them named once.
func (d *decoder) pool(n *node) []Address {
	var list []Address
	d.each(n, func(n *node) {
		a, ok := d.address(n, poolAddresses)
		if !ok {
			return
		}
		if problem := notHost(a.Low, a.High); problem != "" {
			d.fail(a.Place, problem)
			return
		}
		list = append(list, a)
	})
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b Address) int { return a.Low.Compare(b.Low) })
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.High.Less(b.Low) {
			continue
		}
		if before(b.Place, a.Place) {
			a, b = b, a
		}
		d.fail(b.Place, fmt.Sprintf("%s and %s overlap in `%s`; name each address once", a, b, d.key), Note{a.Place, "the other one"})
	}
	return list
}

// notHost says why no host on a network can have one of the addresses, or gives
// "".
func notHost(low, high netip.Addr) string {
	for _, a := range []netip.Addr{low, high} {
		switch {
		case a.IsLoopback():
			return fmt.Sprintf("%s is the gateway itself, and packets with it never leave; write an address of a network", a)
		case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return fmt.Sprintf("%s is not the address of a host; write one that a host can have", a)
		}
	}
	return ""
}
