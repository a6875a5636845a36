package compile_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// host says of one packet what its fields say.
type host struct{ k *packet }

func (h host) Kind(a netip.Addr) uint32 {
	if h.k.local && a == h.k.dst {
		return ruleset.RTNLocal
	}
	return 1
}

func (h host) LocalOn(a netip.Addr, iface string) bool {
	return h.k.localIif && a == h.k.dst && iface == h.k.iif
}

func (h host) Leaves(to netip.Addr) []string {
	if to == h.k.src {
		return []string{h.k.iif}
	}
	return []string{h.k.oif}
}

func (h host) Way(to netip.Addr) []string { return h.Leaves(to) }

func (h host) Holds(string, netip.Addr, netip.Addr) bool { return true }

func (h host) Address(_ string, other netip.Addr) netip.Addr {
	if other.Is4() {
		return netip.MustParseAddr("203.0.113.1")
	}
	return netip.MustParseAddr("2001:db8:ffff::1")
}

// TestExplain takes packets through random policies with package explain, which
// looks into sets by their order and knows the way through the hooks, and with
// the walker of these tests, which looks at every element and is led.
func TestExplain(t *testing.T) {
	translated := 0
	write := func(r *rand.Rand) string {
		if r.IntN(2) == 0 {
			return randomForwards(r)
		}
		return randomZones(r, 2+r.IntN(3)) + "masquerade: {name: m, from: [z0], to: [z1]}\nforward: {rules: [{name: r, to: [z0], protocol: [tcp], ports: 1-5, action: accept}]}\n"
	}
	random(t, 300, write, func(r *rand.Rand, _ string, _ *policy.Policy, rs *ruleset.Ruleset) {
		w := newWalker(t, rs)
		var k packet
		e := explain.New(rs, host{&k})
		for range 200 {
			k = packet{
				iif: pick(r, interfaces()), oif: pick(r, interfaces()), proto: []uint8{6, 17, 1}[r.IntN(3)], tcpFlags: ruleset.TCPSyn,
				src: points()[r.IntN(len(points()))], dst: points()[r.IntN(len(points()))],
				state: ruleset.CtNew, tracked: true,
			}
			if k.proto != 1 {
				k.sport, k.dport = 1000, uint16(1+r.IntN(11))
			} else {
				k.dport = 8 // its type, to the walker
			}
			if r.IntN(2) == 0 {
				k.iif = []string{"eth1", "eth2", "ppp0"}[r.IntN(3)]
				k.src, k.dst = netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}), netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(6))})
			}
			if k.src.Is4() != k.dst.Is4() || k.src == k.dst {
				continue
			}
			k.local = r.IntN(2) == 0
			k.localIif = k.local && r.IntN(2) == 0
			k.origPort, k.origSrc, k.origDst = k.dport, k.src, k.dst

			p := explain.Packet{In: k.iif, Source: k.src, Destination: k.dst, Protocol: k.proto, TCPFlags: k.tcpFlags, State: k.state}
			if k.proto == 1 {
				p.ICMPType = 8
			} else {
				p.SourcePort, p.DestinationPort = k.sport, k.dport
			}
			got := *e.Walk(&p)

			now, want := k, explain.Result{Verdict: ruleset.Accept}
			if k.local {
				now.oif = "" // no way leads out
			}
			o := w.through("nat_prerouting", now)
			if o.kind == ruleset.DNAT {
				translated++
				want.DNAT.Kind, want.DNAT.Address, want.DNAT.Port = ruleset.DNAT, o.target, o.port
				now.dst, now.dport, now.status, now.local = o.target, o.port, ruleset.CtDNAT, false
			}
			hook := "input"
			switch {
			case o.kind == ruleset.Drop:
				hook = "nat_prerouting"
			case !now.local:
				hook, now.oif = "forward", k.oif
				fallthrough
			default:
				o = w.through(hook, now)
			}
			if want.Verdict = o.kind; o.kind == ruleset.Accept && hook == "forward" {
				if nat := w.through("nat_postrouting", now); nat.kind == ruleset.Masquerade {
					want.SNAT.Kind = ruleset.Masquerade
					now.src, now.status = host{}.Address("", now.src), now.status|ruleset.CtSNAT
				}
				if guard := w.through("leak_guard", now); guard.kind == ruleset.Drop {
					o, want.Verdict = guard, ruleset.Drop
				}
			}
			entry := ""
			if got.By != nil {
				entry = got.By.Entry
			}
			if got.Verdict != want.Verdict || entry != o.entry || got.SNAT.Kind != want.SNAT.Kind || got.Local != (hook == "input") ||
				got.DNAT.Kind != want.DNAT.Kind || got.DNAT.Address != want.DNAT.Address || want.DNAT.Kind != 0 && got.DNAT.Port != want.DNAT.Port {
				t.Errorf("%+v: %+v by %q, want %+v by %q in %s", k, got, entry, want, o.entry, hook)
				return
			}
		}
	})
	if translated < 2000 {
		t.Errorf("%d packets were translated", translated)
	}
}
