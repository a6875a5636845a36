// Package random makes random policies of all sections and keys of the
// language, for tests that want to know what every combination does.
//
// What is put together is what stands well beside the rest: an entry that the
// parser or the compiler refuses is left out. So a new key needs nothing but a
// place among the pieces.
package random

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Generator makes policies.
type Generator struct {
	*rand.Rand
	Offload bool // the kernel has flowtables
	// Timeless leaves out what depends on time or on what else is open: rates
	// and limits are then so high that nothing reaches them, and nothing is
	// dropped within a rate.
	Timeless bool
}

func (g *Generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *Generator) of(list ...string) string { return list[g.IntN(len(list))] }

// some gives one of a list, or several of them as a list.
func (g *Generator) some(list ...string) string {
	if g.chance(60) {
		return g.of(list...)
	}
	var out []string
	for _, i := range g.Perm(len(list))[:1+g.IntN(min(3, len(list)))] {
		out = append(out, list[i])
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// maybe gives a key with a value, or nothing.
func (g *Generator) maybe(percent int, key string, value func() string) string {
	if !g.chance(percent) {
		return ""
	}
	return ", " + key + ": " + value()
}

// name is that of an entry, which may be as long as names get, or what objects
// are called.
func (g *Generator) name(n int) string {
	if g.chance(80) {
		return fmt.Sprint("e", n)
	}
	return g.of("default", "all", "v4", "pool", "to", "from", "source", "tcp", "leaks", "total", "drop", strings.Repeat("x", 63), fmt.Sprintf("%063d", n))
}

// piece is one entry of a section, or a setting.
type piece struct{ section, text string }

// Facts are those of a host that has what the policies are about, or of none.
func (g *Generator) Facts() compile.Facts {
	if g.chance(30) {
		return compile.Facts{}
	}
	on := func(name string, addrs ...string) compile.Link {
		l := compile.Link{Name: name, PointToPoint: name == "ppp0"}
		for _, a := range addrs {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		return l
	}
	return compile.Facts{
		Host:          true,
		DefaultRoutes: [][]string{nil, {"eth0"}, {"ppp0"}, {"eth0", "ppp0"}}[g.IntN(4)],
		Links: []compile.Link{
			on("eth0", "203.0.113.2/24", "2001:db8:113::2/64"), on("ppp0", "198.51.100.2/32"), on("br-0"),
			on("eth1", "192.168.1.1/24", "fd00:1::1/64"), on("eth2", "192.168.2.1/24", "fd00:2::1/64"),
		},
	}
}

// Policy puts pieces together, and leaves out those that are refused beside the
// others.
func (g *Generator) Policy(facts compile.Facts) (*Policy, error) {
	var pieces []piece
	for _, p := range g.pieces() {
		if _, err := Read(assemble(append(pieces, p)), facts); err == nil {
			pieces = append(pieces, p)
		}
	}
	out, err := Read(assemble(pieces), facts)
	if err != nil {
		return nil, err
	}
	out.Pieces = len(pieces)
	return out, nil
}

// Policy is a policy that compiles.
type Policy struct {
	Text     string
	Parsed   *policy.Policy
	Compiled *compile.Result
	Pieces   int // how many entries and settings it was put together from
}

// Read parses a policy and compiles it.
func Read(text string, facts compile.Facts) (*Policy, error) {
	parsed, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	compiled, err := compile.Compile(parsed, facts)
	if err != nil {
		return nil, err
	}
	return &Policy{Text: text, Parsed: parsed, Compiled: compiled}, nil
}

// assemble writes a policy file.
func assemble(pieces []piece) string {
	var b strings.Builder
	b.WriteString("version: 1\nsets: {some: [198.51.100.0/24, \"2001:db8:5::/64\", 192.168.1.20-192.168.1.29], four: [192.168.2.0/25], none: []}\n")
	section := ""
	for _, p := range pieces {
		if p.section != section {
			section = p.section
			b.WriteString(section)
		}
		b.WriteString(p.text)
	}
	return b.String()
}

func (g *Generator) pieces() []piece {
	var all []piece
	add := func(section string, most int, one func(n int) string) {
		for n := range g.IntN(most+1) + g.IntN(most+1) {
			all = append(all, piece{section, one(n)})
		}
	}
	for _, zone := range g.zones() {
		all = append(all, piece{"zones:\n", "  " + zone + "\n"})
	}
	add("masquerade:\n", 4, func(n int) string { return "  - " + g.masquerade(n, "") + "\n" })
	add("snat:\n", 4, func(n int) string { return "  - " + g.masquerade(n, g.pool()) + "\n" })
	add("one_to_one:\n", 5, func(n int) string { return "  - " + g.oneToOne(n) + "\n" })
	add("port_forward:\n", 6, func(n int) string { return "  - " + g.portForward(n) + "\n" })
	add("redirect:\n", 4, func(n int) string { return "  - " + g.redirect(n) + "\n" })
	for _, section := range []string{"forward", "input"} {
		if !g.chance(70) {
			continue
		}
		head := section + ":\n  default: " + g.of("drop", "reject", "accept") + "\n  rules:\n"
		add(head, 6, func(n int) string { return "    - " + g.rule(n, section == "input") + "\n" })
	}
	if g.chance(25) && g.Offload {
		all = append(all, piece{"gateway:\n", "  offload: {zones: " + g.some("lan", "wan", "wan2", "dmz", "uplink") + "}\n"})
	}
	add("gateway:\n", 1, func(int) string {
		return "  reserved_ports: " + g.of("[]", "[500, 4500, 51820]", "[1-1023]", "[1-65000]") + "\n"
	})
	return all
}
