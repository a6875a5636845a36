package iptables

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// runs is what the kernel's machine gives for a packet.
func runs(t *testing.T, program []instruction, packet []byte) uint32 {
	t.Helper()
	var a, x uint32
	for at := 0; at < len(program); at++ {
		switch p := program[at]; p.code {
		case loadConstant:
			a = p.k
		case loadWord:
			a = binary.BigEndian.Uint32(packet[p.k:])
		case multiply:
			a *= p.k
		case shiftRight:
			a >>= p.k
		case modulo:
			a %= p.k
		case exclusiveOr:
			a ^= x
		case toX:
			x = a
		case jumpEqual:
			if a == p.k {
				at += int(p.jt)
			} else {
				at += int(p.jf)
			}
		case give:
			return p.k
		default:
			t.Fatalf("an instruction %#x", p.code)
		}
	}
	t.Fatal("a program without an end")
	return 0
}

// Of n targets a client gets exactly one, and clients are spread over all of
// them, be their addresses one after the other.
func TestHashed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first string
		at    int
		of    uint32
	}{
		{"2001:db8::1", 8, 3}, {"fd00:1::a00:0", 8, 40}, {"2001:db8:0:1::", 8, 7}, {"198.51.100.0", 12, 40}, {"10.0.0.0", 12, 100},
	} {
		a := netip.MustParseAddr(c.first)
		words := []uint32{12}
		if a.Is6() {
			words = []uint32{8, 12, 16, 20}
		}
		const clients = 4000
		met := make([]int, c.of)
		for range clients {
			packet := make([]byte, 40)
			copy(packet[c.at:], a.AsSlice())
			found := 0
			for i := range c.of {
				if runs(t, append(mixed(words), chosen(c.of, i)...), packet) != 0 {
					found++
					met[i]++
				}
			}
			if found != 1 {
				t.Fatalf("%s: %d of %d targets are chosen", a, found, c.of)
			}
			a = a.Next()
		}
		for i, n := range met {
			if want := clients / int(c.of); n < want/2 || n > 2*want {
				t.Errorf("from %s on: target %d of %d has %d clients, want about %d", c.first, i, c.of, n, want)
			}
		}
	}
}

// The longest program is one that the kernel takes (XT_BPF_MAX_NUM_INSTR).
func TestHashedLength(t *testing.T) {
	t.Parallel()
	tr := &translator{}
	hash, err := tr.hashed(&ruleset.Pick{Of: 1024, Fields: []ruleset.Field{ruleset.IP6Saddr, ruleset.IP6Daddr}})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for _, c := range hash(1023) {
		if c == ',' {
			n++
		}
	}
	if n > 64 {
		t.Errorf("a program of %d instructions", n)
	}
	if _, err := tr.hashed(&ruleset.Pick{Of: 2, Fields: []ruleset.Field{ruleset.SrcPort}}); err == nil {
		t.Error("a choice by port was taken")
	}
}
