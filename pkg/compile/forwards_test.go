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
	ports := []string{"1", "2", "3", "1-3", "2-4", "4", "5-6", "all"}
	for i := range 2 + r.IntN(5) {
		fmt.Fprintf(&b, "  - {name: f%d, from: %s, to: %s", i, several(r, []string{"lan", "dmz", "wan"}, 2),
			pick(r, []string{"172.16.0.%d", "'172.16.0.%d:7'"}))
		text := strings.Replace(b.String(), "%d", fmt.Sprint(i), 1)
		b.Reset()
		b.WriteString(text)
		fmt.Fprintf(&b, ", protocol: %s", pick(r, []string{"tcp", "udp", "[tcp, udp]"}))
		if p := pick(r, ports); p == "all" || r.IntN(3) > 0 {
			fmt.Fprintf(&b, ", ports: %s", p)
		} else {
			fmt.Fprintf(&b, ", ports: [%s, %s]", p, pick(r, []string{"8", "9-10"}))
		}
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

// expect gives the entry and the target's port that the language page gives a
// packet from a zone, or one of the gateway's own: the first entry that takes
// it.
func expect(p *policy.Policy, zone string, k packet) (entry string, port uint16) {
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
		ports := f.AllPorts || slices.ContainsFunc(f.Ports, func(r policy.Ports) bool { return r.First <= k.dport && k.dport <= r.Last })
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
			!slices.ContainsFunc(f.Protocols, func(p policy.Protocol) bool { return p.Number == k.proto }) ||
			len(f.Sources) > 0 && !has(f.Sources, k.src) || has(f.ExceptSources, k.src) {
			continue
		}
		if f.To.First != 0 {
			return "port_forward " + f.Name, f.To.First
		}
		return "port_forward " + f.Name, k.dport
	}
	return "", 0
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
				sport: 1000, dport: uint16(1 + r.IntN(11)), state: ruleset.CtNew, tracked: true,
			}
			k.local = r.IntN(2) == 0
			k.localIif = k.local && r.IntN(2) == 0
			name := []string{"lan", "dmz", "wan"}[zone]
			entry, port := expect(p, name, k)
			got := w.through("nat_prerouting", k)
			if got.entry != entry && (entry != "" || got.kind == ruleset.DNAT) || got.port != port {
				t.Errorf("%+v: %q port %d through %v, want %q port %d", k, got.entry, got.port, got.visited, entry, port)
				return
			}
			mine := k
			mine.iif, mine.oif = "", "lo"
			itsEntry, itsPort := expect(p, "gateway", mine)
			if got := w.through("nat_output", mine); got.entry != itsEntry && (itsEntry != "" || got.kind == ruleset.DNAT) || got.port != itsPort {
				t.Errorf("the gateway's own %+v: %q port %d, want %q port %d", mine, got.entry, got.port, itsEntry, itsPort)
				return
			}
			k.origPort, k.oif = k.dport, "eth2"
			if entry != "" {
				translated++
				k.status, k.dst, k.dport = ruleset.CtDNAT, got.target, got.port
			}
			if passes := w.through("forward", k); (passes.kind == ruleset.Accept) != (entry != "") {
				t.Errorf("%+v: forward %v by %q through %v, translated by %q", k, passes.kind, passes.entry, passes.visited, entry)
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
