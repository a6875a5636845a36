package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
)

// TestRandomPolicies applies policies of all sections in all combinations, one
// over the other: what is accepted can be committed whatever was there before,
// is what its text loads as, and goes without a trace. RANDOM_POLICIES=SEED:N
// makes N others.
func TestRandomPolicies(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	seed, n := uint64(1), 24
	if s, ok := os.LookupEnv("RANDOM_POLICIES"); ok {
		if _, err := fmt.Sscanf(s, "%d:%d", &seed, &n); err != nil {
			t.Fatalf("RANDOM_POLICIES=%s: %v", s, err)
		}
	}
	const chains = 4
	for i := range chains {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			over, pieces := lab.New(t).Host("over"), 0
			g := generator{rand.New(rand.NewPCG(seed, uint64(i))), over.HasFlowtables()}
			for j := i; j < n; j += chains {
				facts := g.facts()
				text, r, used := g.policy(t, facts)
				pieces += used
				if !overIs(t, over, r) {
					t.Fatalf("seed %d, policy %d, facts %+v:\n%s", seed, j, facts, text)
				}
				if !t.Run(strconv.Itoa(j), func(t *testing.T) { compare(t, r) }) {
					t.Logf("facts %+v:\n%s", facts, text)
				}
			}
			if pieces < n/chains*8 {
				t.Errorf("%d policies have %d pieces together", n/chains, pieces)
			}
			empty, err := compile.Compile(&policy.Policy{}, compile.Facts{})
			if err != nil {
				t.Fatal(err)
			}
			overIs(t, over, empty)
			if left := over.Run(t, "nft", "list", "ruleset"); left != "" {
				t.Errorf("an empty policy leaves\n%s", left)
			}
		})
	}
}

// overIs commits a policy over what is there, tried first, and reads it back.
func overIs(t *testing.T, h *lab.Host, r *compile.Result) bool {
	t.Helper()
	b, ctx := nftables.New(h.Do), context.Background()
	want, err := b.Want(r.Ruleset)
	if err != nil {
		t.Error(err)
		return false
	}
	have, err := b.Have(ctx)
	if err != nil {
		t.Error(err)
		return false
	}
	changes := plan.Diff(have, want)
	for _, dry := range []bool{true, false} {
		if err := b.Commit(ctx, changes, dry); err != nil {
			t.Errorf("commit (dry run: %v): %v", dry, err)
			return false
		}
	}
	return same(t, "the commit", want, h)
}

// generator makes policies of pieces that are valid by themselves.
type generator struct {
	*rand.Rand
	offload bool // the kernel has flowtables
}

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) of(list ...string) string { return list[g.IntN(len(list))] }

// some gives one of a list, or several of them as a list.
func (g generator) some(list ...string) string {
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
func (g generator) maybe(percent int, key string, value func() string) string {
	if !g.chance(percent) {
		return ""
	}
	return ", " + key + ": " + value()
}

// name is that of an entry, which may be as long as names get, or what objects
// are called.
func (g generator) name(n int) string {
	if g.chance(80) {
		return fmt.Sprint("e", n)
	}
	return g.of("default", "all", "v4", "pool", "to", "from", "source", "tcp", "leaks", "total", "drop", strings.Repeat("x", 63), fmt.Sprintf("%063d", n))
}

// piece is one entry of a section, or a setting.
type piece struct{ section, text string }

// facts are those of a host that has what the policies are about, or of none.
func (g generator) facts() compile.Facts {
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

// policy puts pieces together, and leaves out those that are refused beside the
// others.
func (g generator) policy(t *testing.T, facts compile.Facts) (text string, r *compile.Result, used int) {
	t.Helper()
	var pieces []piece
	for _, p := range g.pieces() {
		text := assemble(append(pieces, p))
		parsed, err := policy.Parse("policy.yaml", []byte(text))
		if err != nil {
			continue
		}
		if _, err := compile.Compile(parsed, facts); err != nil {
			continue
		}
		pieces = append(pieces, p)
	}
	text = assemble(pieces)
	parsed, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = compile.Compile(parsed, facts); err != nil {
		t.Fatal(err)
	}
	return text, r, len(pieces)
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

func (g generator) pieces() []piece {
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
	if g.chance(25) && g.offload {
		all = append(all, piece{"gateway:\n", "  offload: {zones: " + g.some("lan", "wan", "wan2", "dmz", "uplink") + "}\n"})
	}
	add("gateway:\n", 1, func(int) string {
		return "  reserved_ports: " + g.of("[]", "[500, 4500, 51820]", "[1-1023]", "[1-65000]") + "\n"
	})
	return all
}

func (g generator) zones() []string {
	extra := func() string {
		return g.maybe(20, "mss_clamp", func() string { return g.of("pmtu", "1300") }) +
			g.maybe(20, "antispoof", func() string { return g.of("true", "false") })
	}
	symmetric := func(n int) string {
		return g.maybe(35, "symmetric", func() string {
			return g.of("true", fmt.Sprintf("{mark: 0x%x00/0xff00, table: %d}", n, 100+n), fmt.Sprintf("{gateway: 203.0.113.%d}", n))
		})
	}
	nets := func(v4, v6 string) string {
		return g.maybe(80, "networks", func() string { return g.of(v4, `"`+v6+`"`, "["+v4+`, "`+v6+`"]`, "["+v4+`, "`+v6+`"]`) })
	}
	zones := []string{
		"lan: {interfaces: eth1" + nets("192.168.1.0/24", "fd00:1::/64") + extra() + "}",
		"wan: {interfaces: eth0" + extra() + symmetric(1) + "}",
	}
	for _, z := range []string{
		"wan2: {interfaces: ppp0" + extra() + symmetric(2) + "}",
		"dmz: {interfaces: [eth2, eth3, eth4]" + nets("192.168.2.0/24", "fd00:2::/64") + extra() + "}",
		`guest: {interfaces: "br-*"` + nets("10.9.0.0/16", "fd00:9::/48") + extra() + "}",
		"vpn: {networks: [10.8.0.0/16, \"@four\"]" + extra() + "}",
		"part: {interfaces: eth1, networks: 192.168.1.64/26" + extra() + "}",
		"uplink: {default_route: true" + extra() + "}",
		`odd: {interfaces: ["a$b", "x@y", "eth0.100", "7", "in#", "accept", "a-b_c+", "{x}"]` + extra() + "}",
		`odder: {interfaces: ["$x*", "z.*", "0x*"]` + extra() + "}",
	} {
		if g.chance(45) {
			zones = append(zones, z)
		}
	}
	return zones
}

func (g generator) inside() string  { return g.some("lan", "dmz", "guest", "vpn", "part", "any") }
func (g generator) outside() string { return g.some("wan", "wan2", "uplink", "wan", "dmz") }

func (g generator) addresses() string {
	return g.some("192.168.1.10", "192.168.1.0/25", "192.168.1.30-192.168.1.50", `"fd00:1::10"`, `"fd00:1::/65"`, `"@some"`, `"@four"`, `"@none"`, "198.51.100.7", "0.0.0.0/1", `"::/0"`, "0.0.0.0/0")
}

func (g generator) destinations() string {
	if g.chance(15) {
		return "gateway"
	}
	return g.addresses()
}

func (g generator) ports() string { return g.some("80", "443", "8000-8010", "53", "1-65535", "21") }

// protocol gives protocols, and ports where they have any.
func (g generator) protocol() string {
	if g.chance(40) {
		return ""
	}
	p := g.some("tcp", "udp", "sctp", "udplite", "tcp", "udp")
	if g.chance(25) {
		return ", protocol: " + g.some("icmp", "icmpv6", "gre", "esp", "ah", "47", "132", "tcp")
	}
	return ", protocol: " + p + g.maybe(70, "ports", g.ports)
}

func (g generator) family() string {
	return g.maybe(8, "family", func() string { return g.of("ipv4", "ipv6") })
}

func (g generator) narrowed() string {
	return g.maybe(25, "sources", g.addresses) + g.maybe(15, "except_sources", g.addresses) +
		g.maybe(20, "destinations", g.destinations) + g.maybe(15, "except_destinations", g.destinations)
}

func (g generator) log() string {
	return g.maybe(15, "log", func() string {
		return g.of("true", `{prefix: "%s; #'{x}@&|*?~!: "}`, "{prefix: \""+strings.Repeat("y", 63)+"\"}", "{level: debug, rate: 3/minute}", "{group: 7, rate: {limit: 5/hour, burst: 9}}", "{group: 0}")
	})
}

func (g generator) limits() string {
	return g.maybe(15, "max_connections", func() string { return g.of("{per_host: 10}", "{total: 100}", "{per_host: 7, total: 9}") })
}

func (g generator) attributes() string {
	return g.limits() + g.log() +
		g.maybe(15, "timeouts", func() string {
			return g.of("{tcp: {established: 2h4m}}", "{udp: {unreplied: 16s, replied: 3m}}", "{tcp: {syn_sent: 9s, close: 3s}, udp: {replied: 1m}}")
		}) +
		g.maybe(20, "helpers", func() string {
			return g.some("ftp", "ftp", "ftp", "irc", "sip", "tftp", "pptp", "h323", "amanda", "sane", "snmp", "netbios-ns", "{ftp: [21, 2121]}")
		})
}

func (g generator) masquerade(n int, pool string) string {
	if pool != "" && g.chance(30) {
		return fmt.Sprintf("{name: e%d, from: lan, to: %s, addresses: [203.0.113.%d, 203.0.113.%d], sources: 192.168.1.%d-192.168.1.%d, ports_per_host: %s", n, g.outside(), 10+n, 40+n, 10*n, 10*n+9, g.of("64", "1000", "4032")) + g.attributes() + "}"
	}
	// Both sections use the same names.
	return fmt.Sprintf("{name: %s, from: %s, to: %s%s", g.name(n), g.inside(), g.outside(), pool) + g.family() + g.narrowed() + g.protocol() +
		g.maybe(15, "outside_ports", func() string { return g.of("32768-65535", "1024-1024", "400-600") }) +
		g.maybe(20, "port_selection", func() string { return g.of("preserve", "random", "fully-random") }) +
		g.maybe(15, "forward", func() string { return "false" }) + g.attributes() + "}"
}

func (g generator) pool() string {
	return ", addresses: " + g.some("203.0.113.10", "203.0.113.16/28", "203.0.113.40-203.0.113.44", `"2001:db8:113::10"`, `"2001:db8:113::20-2001:db8:113::2f"`) +
		g.maybe(30, "distribution", func() string { return g.of("persistent", "kernel", "round-robin") }) +
		g.maybe(20, "ports_per_host", func() string { return g.of("64", "1000", "4032") })
}

func (g generator) oneToOne(n int) string {
	sides := g.of(
		fmt.Sprintf("outside: 203.0.113.%d, inside: 192.168.1.%d", 60+n, 10+n),
		fmt.Sprintf("outside: 203.0.113.%d, inside: 192.168.%d.10", 60+n, 1+n%2),
		fmt.Sprintf("outside: 203.0.113.%d/29, inside: 192.168.1.%d/29", 128+8*n, 64+8*n),
		fmt.Sprintf(`outside: "2001:db8:113::%d", inside: "fd00:1::%d"`, 60+n, 10+n),
		fmt.Sprintf(`outside: "2001:db8:20%d::/64", inside: "fd00:%d::/64"`, n, 1+n%2),
	)
	return fmt.Sprintf("{name: %s, zone: %s, %s", g.name(n), g.of("wan", "wan2", "uplink"), sides) + g.family() +
		g.maybe(60, "expose", func() string {
			return g.of("all", g.some("tcp/25", "udp/5000-6000", "icmp", "icmpv6", "gre", "sctp", "tcp/80-90", "udp/53"))
		}) + g.log() + "}"
}

func (g generator) portForward(n int) string {
	e := "{name: " + g.name(n) + g.family()
	address := g.maybe(30, "address", func() string {
		return g.some("203.0.113.2", "203.0.113.60", "203.0.113.16/28", `"2001:db8:113::2"`, "any", `"@some"`)
	})
	from := ", from: " + g.some("wan", "wan2", "uplink", "lan", "any")
	if g.chance(8) {
		address, from = ", address: "+g.some("127.0.0.1", `"::1"`), ""
	}
	e += from + address
	if g.chance(20) {
		e += ", map: {" + fmt.Sprintf("tcp/%d: 192.168.1.10:80, udp/%d-%d: 192.168.2.10, tcp/%d: \"[fd00:1::10]:22\"", 1000+n, 2000+n, 2005+n, 3000+n) + "}"
	} else {
		e += ", protocol: " + g.some("tcp", "udp", "sctp", "tcp") + ", ports: " + g.of("all", "80", "[80, 443]", "8000-8010", "[22, 5000-5999]", "53") + g.maybe(20, "except_ports", g.ports) +
			", to: " + g.some("192.168.1.10", "192.168.1.11:8080", "192.168.2.10:9000-9010", `"fd00:1::10"`, `"[fd00:1::11]:8080"`, "192.168.1.12", "198.51.100.7") + g.maybe(20, "sticky", func() string { return "true" })
	}
	return e + g.maybe(20, "sources", g.addresses) + g.maybe(15, "except_sources", g.addresses) +
		g.maybe(30, "hairpin", func() string {
			return g.of("false", "{zones: [lan]}", "{zones: [lan, dmz], source: outside}", "{source: outside}")
		}) +
		g.maybe(15, "masquerade", func() string { return "true" }) + g.attributes() + "}"
}

func (g generator) redirect(n int) string {
	return fmt.Sprintf("{name: %s, from: %s", g.name(n), g.inside()) + g.family() + g.of(", protocol: icmp", ", protocol: tcp, ports: 80, to_port: 3128", ", protocol: [tcp, udp], ports: 53", ", protocol: udp, ports: 1000-2000, to_port: 9", ", protocol: tcp, ports: [25, 26]") +
		g.narrowed() + g.maybe(30, "local", func() string { return "true" }) + g.log() + "}"
}

func (g generator) rule(n int, input bool) string {
	e := fmt.Sprintf("{name: %s, action: %s", g.name(n), g.of("accept", "accept", "drop", "reject")) + g.family() + g.maybe(70, "from", func() string { return g.some("lan", "dmz", "wan", "wan2", "guest", "vpn", "uplink", "any") })
	if !input {
		e += g.maybe(60, "to", func() string { return g.some("lan", "dmz", "wan", "wan2", "uplink", "any") }) + g.maybe(15, "mark", func() string { return g.of("0x1/0xff", "0x30000", "7") })
	}
	if !input && g.chance(8) {
		e = fmt.Sprintf("{name: e%d, action: accept, synproxy: true", n)
		if g.chance(60) {
			e += ", to: " + g.some("lan", "dmz")
		}
		return e + ", protocol: tcp, ports: " + g.ports() + "}"
	}
	if g.chance(20) {
		e += ", protocol: " + g.of("[icmp, icmpv6]", "icmp") + ", icmp_types: " + g.some("echo-request", "destination-unreachable", "echo-reply")
	} else {
		e += g.protocol()
	}
	return e + g.narrowed() + g.maybe(10, "source_ports", g.ports) + g.limits() + g.log() +
		g.maybe(20, "rate", func() string {
			return g.of("10/second", "{limit: 5/minute, burst: 5, per: source}", "{limit: 1/day, burst: 1, per: source}", "100/hour")
		}) + "}"
}
