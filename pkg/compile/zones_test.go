package compile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// interfaces and points are all that random zones can tell apart.
func interfaces() []string {
	return []string{"eth1", "eth2", "br-a", "br-ab", "br-abc", "br-x", "ppp0", "other"}
}

func points() []netip.Addr {
	var out []netip.Addr
	for i := range 16 {
		out = append(out, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	for i := range 4 {
		out = append(out, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i)))
	}
	return append(out, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"))
}

func pick(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

func several(r *rand.Rand, list []string, most int) string {
	var out []string
	for range 1 + r.IntN(most) {
		if x := pick(r, list); !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return `["` + strings.Join(out, `", "`) + `"]`
}

func randomZones(r *rand.Rand, n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nzones:\n")
	for i := range n {
		var parts []string
		if r.IntN(5) > 0 {
			parts = append(parts, "interfaces: "+several(r, []string{"eth1", "eth2", "br-*", "br-a*", "br-ab*", "br-abc", "ppp0"}, 2))
		}
		if len(parts) == 0 || r.IntN(3) > 0 {
			parts = append(parts, "networks: "+several(r, []string{"10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "10.0.0.0/30",
				"10.0.0.4-10.0.0.6", "10.0.0.5", "10.0.0.15", "fd00::/64", "fd00::/127", "fd00::2", "0.0.0.0/0"}, 3))
		}
		fmt.Fprintf(&b, "  z%d: {%s}\n", i, strings.Join(parts, ", "))
	}
	return b.String()
}

// oracle tells zones apart as the language page words it.
type oracle struct{ zones []policy.Zone }

func (o oracle) matches(z *policy.Zone, iface string, a netip.Addr) bool {
	on := len(z.Interfaces) == 0 || slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(iface) })
	in := len(z.Networks) == 0 || slices.ContainsFunc(z.Networks, func(n policy.Address) bool {
		return n.Low.Is4() == a.Is4() && n.Low.Compare(a) <= 0 && a.Compare(n.High) <= 0
	})
	return on && in
}

// of gives the zone of an address at an interface: of those that match, the one
// that matches the fewest points, since one lies within the other.
func (o oracle) of(iface string, a netip.Addr) string {
	best, size := "", 1<<30
	for i := range o.zones {
		z := &o.zones[i]
		if !o.matches(z, iface, a) {
			continue
		}
		n := 0
		for _, i := range interfaces() {
			for _, p := range points() {
				if o.matches(z, i, p) {
					n++
				}
			}
		}
		if n < size {
			best, size = z.Name, n
		}
	}
	return best
}

func (o oracle) named(iface string) bool {
	return slices.ContainsFunc(o.zones, func(z policy.Zone) bool {
		return slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(iface) })
	})
}

// random calls each with policies that compile.
func random(t *testing.T, n int, write func(r *rand.Rand) string, each func(r *rand.Rand, text string, p *policy.Policy, rs *ruleset.Ruleset)) {
	compiled := 0
	for seed := uint64(1); compiled < n; seed++ {
		if seed > uint64(n)*300 {
			t.Fatalf("%d of %d policies compile", compiled, n)
		}
		r := rand.New(rand.NewPCG(seed, 7))
		text := write(r)
		p, err := policy.Parse("random.yaml", []byte(text))
		if err != nil {
			continue
		}
		res, err := compile.Compile(p, compile.Facts{})
		if err != nil {
			if _, ok := errors.AsType[policy.Errors](err); !ok {
				t.Fatal(err)
			}
			continue
		}
		compiled++
		each(r, text, p, res.Ruleset)
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, text)
		}
	}
}

// TestZones holds where a packet comes from and goes to against the language
// page, for random zones that overlap by interfaces, wildcards and networks.
func TestZones(t *testing.T) {
	random(t, 300, func(r *rand.Rand) string {
		n := 2 + r.IntN(4)
		text := randomZones(r, n)
		var from, to []string
		for i := range n {
			if r.IntN(2) == 0 {
				from = append(from, fmt.Sprintf("z%d", i))
			}
			if r.IntN(2) == 0 {
				to = append(to, fmt.Sprintf("z%d", i))
			}
		}
		text += "forward:\n  default: reject\n"
		if len(to) > 0 {
			text += fmt.Sprintf("  rules: [{name: r, to: [%s], action: accept}]\n", strings.Join(to, ", "))
		}
		if len(from) > 0 && len(to) > 0 {
			text += fmt.Sprintf("masquerade: {name: m, from: [%s], to: [%s], forward: false}\n", strings.Join(from, ", "), strings.Join(to, ", "))
		}
		return text
	}, func(r *rand.Rand, text string, p *policy.Policy, rs *ruleset.Ruleset) {
		w, o := newWalker(t, rs), oracle{p.Zones}
		for _, in := range interfaces() {
			for _, src := range points() {
				oif, dst := pick(r, interfaces()), points()[r.IntN(len(points()))]
				if dst.Is4() != src.Is4() {
					continue
				}
				k := packet{iif: in, oif: oif, src: src, dst: dst, proto: 6, state: ruleset.CtNew, tracked: true}
				got, from, to := w.through("forward", k), o.of(in, src), o.of(oif, dst)
				want, entry := ruleset.Reject, "forward default"
				switch {
				case from == "" && !o.named(in):
					want, entry = ruleset.Accept, ""
					got.entry = "" // by the last rule, or by the chain's policy
				case from != "" && len(p.Forward.Rules) > 0 && slices.ContainsFunc(p.Forward.Rules[0].To, func(z policy.ZoneRef) bool { return z.Name == to }):
					want, entry = ruleset.Accept, "forward r"
				}
				if got.zoneIn("forward_from_") != from || got.kind != want || got.entry != entry {
					t.Errorf("%s %s to %s %s: forward %v by %q through %v, want %v by %q from %q to %q", in, src, oif, dst, got.kind, got.entry, got.visited, want, entry, from, to)
					return
				}
				if len(p.Masquerade) == 0 {
					continue
				}
				m := &p.Masquerade[0]
				has := func(list []policy.ZoneRef, zone string) bool {
					return slices.ContainsFunc(list, func(z policy.ZoneRef) bool { return z.Name == zone })
				}
				masquerades := has(m.From, from) && has(m.To, to)
				if got := w.through("nat_postrouting", k); (got.kind == ruleset.Masquerade) != masquerades {
					t.Errorf("%s %s to %s %s: nat %v through %v, from %q to %q", in, src, oif, dst, got.kind, got.visited, from, to)
					return
				}
				if got := w.through("leak_guard", k); (got.kind == ruleset.Drop) != masquerades {
					t.Errorf("%s %s to %s %s: guard %v through %v, from %q to %q", in, src, oif, dst, got.kind, got.visited, from, to)
					return
				}
			}
		}
	})
}
