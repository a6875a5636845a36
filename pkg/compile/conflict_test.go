package compile_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// takes says whether an entry takes a packet that arrives from a zone.
func takes(p *policy.Policy, i int, zone string, k packet) bool {
	one := *p
	one.PortForward = p.PortForward[i : i+1 : i+1]
	one.PortForward = append([]policy.PortForward(nil), one.PortForward...)
	one.PortForward[0].Hairpin.Off = true
	return expect(&one, zone, k).entry != ""
}

// covered says whether some port of an entry is one that an earlier entry
// takes wholly, as the language page has it: by trying all packets there are.
func covered(p *policy.Policy) bool {
	var packets []packet
	for _, src := range []byte{0, 1, 2, 3, 4, 5, 6, 8, 200} {
		for dst := range byte(6) {
			for _, local := range []bool{false, true} {
				packets = append(packets, packet{src: netip.AddrFrom4([4]byte{10, 0, 0, src}), dst: netip.AddrFrom4([4]byte{192, 0, 2, dst}), local: local})
			}
		}
	}
	for later := range p.PortForward {
		for earlier := range later {
			for _, proto := range []uint8{6, 17} {
				all, any := true, false
				for port := uint16(1); port <= 12; port++ {
					mine, missed := false, false
					for _, zone := range []string{"lan", "dmz", "wan"} {
						for _, k := range packets {
							k.proto, k.dport = proto, port
							if takes(p, later, zone, k) {
								mine = true
								missed = missed || !takes(p, earlier, zone, k)
							}
						}
					}
					if !mine {
						continue
					}
					any, all = true, all && !missed
					if !missed && !p.PortForward[later].AllPorts {
						return true
					}
				}
				if any && all {
					return true
				}
			}
		}
	}
	return false
}

// TestConflicts holds which random policies are refused against trying all
// packets.
func TestConflicts(t *testing.T) {
	refused := 0
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 11))
		text := randomForwards(r)
		if strings.Contains(text, "@") || strings.Contains(text, "fd00") {
			continue // what is in a set does not make a conflict; all packets here are IPv4
		}
		p, err := policy.Parse("random.yaml", []byte(text))
		if err != nil {
			continue
		}
		_, err = compile.Compile(p, compile.Facts{})
		if err != nil && !strings.Contains(err.Error(), "never gets") {
			continue
		}
		if err != nil {
			refused++
		}
		if want := covered(p); (err != nil) != want {
			t.Fatalf("seed %d: got %v, want an error: %v\n%s", seed, err, want, text)
		}
	}
	if refused < 20 {
		t.Errorf("%d policies were refused; they are too narrow", refused)
	}
}
