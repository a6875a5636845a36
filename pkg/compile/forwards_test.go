package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func randomForwards(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(`version: 1
zones: {lan: {interfaces: eth1}, dmz: {interfaces: eth2}, wan: {interfaces: ppp0}}
sets: {few: [10.0.0.1, 10.0.0.4/30], more: [10.0.0.0/29]}
port_forward:
`)
	sources := []string{"10.0.0.1", "10.0.0.0/30", "10.0.0.0/29", "10.0.0.8/29", "@few", "@more", "10.0.0.4", "10.0.0.5"}
	addresses := []string{"192.0.2.1", "192.0.2.2", "192.0.2.0/30", "192.0.2.3", "@few"}
	protocols, ports := []string{"tcp", "udp"}, []string{"1", "2", "3", "1-3", "2-4", "4", "5-6", "all"}
	for i := range 2 + r.IntN(5) {
		fmt.Fprintf(&b, "  - {name: f%d, from: %s", i, several(r, []string{"lan", "dmz", "wan"}, 2))
		if r.IntN(6) == 0 {
			fmt.Fprintf(&b, ", map: {%s/1: 172.16.0.%d, %s/2-3: '172.16.1.%d:7', %s/7-9: '172.16.2.%d:17-19'}",
				pick(r, protocols), i, pick(r, protocols), i, pick(r, protocols), i)
		} else {
			p := pick(r, ports)
			fmt.Fprintf(&b, ", protocol: %s", pick(r, []string{"tcp", "udp", "[tcp, udp]"}))
			one := p == "all" || r.IntN(3) > 0
			if one {
				fmt.Fprintf(&b, ", ports: %s", p)
			} else {
				fmt.Fprintf(&b, ", ports: [%s, %s]", p, pick(r, []string{"8", "9-10"}))
			}
			if p == "all" || p == "1-3" {
				b.WriteString(pick(r, []string{"", ", except_ports: 2", ", except_ports: [1, 3]"}))
			}
			randomTargets(r, &b, i, one && strings.HasSuffix(p, "-3"))
		}
		b.WriteString(pick(r, []string{"", "", "", "", "", ", log: true", ", max_connections: {per_host: 3, total: 7}"}))
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, ", sources: %s", several(r, sources, 2))
		}
		if r.IntN(5) == 0 {
			fmt.Fprintf(&b, ", except_sources: %s", several(r, sources, 2))
		}
		switch r.IntN(4) {
		case 0:
			fmt.Fprintf(&b, ", address: %s", several(r, addresses, 2))
		case 1:
			if r.IntN(3) == 0 {
				b.WriteString(", address: any")
			}
		}
		switch r.IntN(6) {
		case 0:
			b.WriteString(", hairpin: false")
		case 1:
			b.WriteString(", hairpin: {zones: dmz}")
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// randomTargets writes one target or several, with or without a port; to three
// ports also a range of as many.
func randomTargets(r *rand.Rand, b *strings.Builder, i int, three bool) {
	var list []string
	for n := range max(1, r.IntN(7)-2) {
		forms := []string{"172.16.%d.%d", "'172.16.%d.%d:7'", "'fd00::%d:%d'"}
		if three {
			forms = append(forms, "'172.16.%d.%d:21-23'")
		}
		if n == 0 {
			forms = slices.Delete(forms, 2, 3)
		}
		list = append(list, fmt.Sprintf(pick(r, forms), n, i))
	}
	if len(list) == 1 {
		fmt.Fprintf(b, ", to: %s", list[0])
		return
	}
	fmt.Fprintf(b, ", to: [%s], sticky: %v", strings.Join(list, ", "), r.IntN(2) == 0)
}

// destination is where a packet is led.
type destination struct {
	entry  string
	target netip.Addr
	port   uint16
}

// expect gives the destination that the language page gives a packet from a
// zone, or one of the gateway's own: that of the first entry that takes it.
func expect(p *policy.Policy, zone string, k packet) destination {
	has := func(list []policy.Address, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(x policy.Address) bool {
			list := []policy.Address{x}
			if x.Set != "" {
				for _, s := range p.Sets {
					if s.Name == x.Set {
						list = s.Addresses
					}
				}
			}
			return slices.ContainsFunc(list, func(x policy.Address) bool { return x.Low.Compare(a) <= 0 && a.Compare(x.High) <= 0 })
		})
	}
	names := func(list []policy.ZoneRef, zone string) bool {
		return slices.ContainsFunc(list, func(z policy.ZoneRef) bool { return z.Name == zone })
	}
	for i := range p.PortForward {
		f := &p.PortForward[i]
		arrives := names(f.From, zone)
		hairpin := !arrives && !f.AnyAddress && !f.Hairpin.Off && (f.Hairpin.Zones == nil || zone != "gateway" && names(f.Hairpin.Zones, zone))
		to, ports := leads(f, k)
		address := f.AnyAddress
		switch {
		case len(f.Address) > 0:
			address = has(f.Address, k.dst)
		case arrives:
			address = address || k.local
		default:
			address = k.local && (zone == "gateway" || !k.localIif)
		}
		if !arrives && !hairpin || !ports || !address ||
			len(f.Sources) > 0 && !has(f.Sources, k.src) || has(f.ExceptSources, k.src) {
			continue
		}
		return destination{"port_forward " + f.Name, to.Addr, to.First}
	}
	return destination{}
}

// leads gives the target of a packet, by an entry's protocols and ports alone.
func leads(f *policy.PortForward, k packet) (to policy.Target, ok bool) {
	in := func(r policy.Ports) bool { return r.First <= k.dport && k.dport <= r.Last }
	if f.Map != nil {
		for _, l := range f.Map.Lines {
			if r := (policy.Ports{First: l.First, Last: l.Last}); l.Protocol == k.proto && l.Addr.Is4() && in(r) {
				return forwarded(policy.Target{Addr: l.Addr, First: l.ToFirst, Last: l.ToLast}, r, k), true
			}
		}
		return to, false
	}
	if !slices.ContainsFunc(f.Protocols, func(p policy.Protocol) bool { return p.Number == k.proto }) ||
		!f.AllPorts && !slices.ContainsFunc(f.Ports, in) || slices.ContainsFunc(f.ExceptPorts, in) {
		return to, false
	}
	targets := []policy.Target{f.To}
	if len(f.Targets) > 0 {
		targets = slices.DeleteFunc(slices.Clone(f.Targets), func(t policy.Target) bool { return !t.Addr.Is4() })
	}
	var from policy.Ports
	if !f.AllPorts {
		from = f.Ports[0]
	}
	return forwarded(targets[int(k.pick)%len(targets)], from, k), true
}

// forwarded gives a target with the port that a packet lands on.
func forwarded(t policy.Target, from policy.Ports, k packet) policy.Target {
	switch {
	case t.First == 0:
		t.First = k.dport
	case t.First != t.Last:
		t.First += k.dport - from.First
	}
	return t
}

// TestForwards holds which entry takes a packet against the language page, for
// random entries that overlap, and that exactly what was translated passes.
func TestForwards(t *testing.T) {
	translated := 0
	random(t, 500, randomForwards, func(r *rand.Rand, text string, p *policy.Policy, rs *ruleset.Ruleset) {
		w := newWalker(t, rs)
		for range 300 {
			zone := r.IntN(3)
			k := packet{
				iif: []string{"eth1", "eth2", "ppp0"}[zone], proto: []uint8{6, 17}[r.IntN(2)],
				src: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}), dst: netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(6))}),
				sport: 1000, dport: uint16(1 + r.IntN(11)), state: ruleset.CtNew, tracked: true, pick: uint32(r.IntN(12)),
			}
			k.local = r.IntN(2) == 0
			k.localIif = k.local && r.IntN(2) == 0
			name := []string{"lan", "dmz", "wan"}[zone]
			wrong := func(got outcome, want destination) bool {
				if want.entry == "" {
					return got.kind == ruleset.DNAT
				}
				return got.kind != ruleset.DNAT || (destination{got.entry, got.target, got.port}) != want
			}
			want := expect(p, name, k)
			got := w.through("nat_prerouting", k)
			if wrong(got, want) {
				t.Errorf("%+v: %+v, want %+v", k, got, want)
				return
			}
			mine := k
			mine.iif, mine.oif = "", "lo"
			if want, got := expect(p, "gateway", mine), w.through("nat_output", mine); wrong(got, want) {
				t.Errorf("the gateway's own %+v: %+v, want %+v", mine, got, want)
				return
			}
			k.origPort, k.oif = k.dport, "eth2"
			if want.entry != "" {
				translated++
				k.status, k.dst, k.dport = ruleset.CtDNAT, got.target, got.port
			}
			if passes := w.through("forward", k); (passes.kind == ruleset.Accept) != (want.entry != "") {
				t.Errorf("%+v: forward %v by %q through %v, translated by %q", k, passes.kind, passes.entry, passes.visited, want.entry)
				return
			}
			k.status = 0
			if passes := w.through("forward", k); passes.kind != ruleset.Drop {
				t.Errorf("%+v: passes untranslated by %q", k, passes.entry)
				return
			}
		}
	})
	if translated < 10000 {
		t.Errorf("%d packets were translated; the policies are too narrow", translated)
	}
}
