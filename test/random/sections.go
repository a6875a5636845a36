package random

import (
	"fmt"
	"strings"
)

func (g *Generator) zones() []string {
	extra := func() string {
		return g.maybe(20, "mss_clamp", func() string { return g.of("pmtu", "1300") }) +
			g.maybe(20, "antispoof", func() string { return g.of("true", "false") })
	}
	symmetric := func(n int) string {
		return g.maybe(35, "symmetric", func() string {
			return g.of("true", fmt.Sprintf("{mark: 0x%x00/0xff00, table: %d}", n, 100+n), "{gateway: "+[]string{"203.0.113.1", "198.51.100.1"}[n-1]+"}")
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

func (g *Generator) inside() string  { return g.some("lan", "dmz", "guest", "vpn", "part", "any") }
func (g *Generator) outside() string { return g.some("wan", "wan2", "uplink", "wan", "dmz") }

func (g *Generator) addresses() string {
	return g.some("192.168.1.10", "192.168.1.0/25", "192.168.1.30-192.168.1.50", `"fd00:1::10"`, `"fd00:1::/65"`, `"@some"`, `"@four"`, `"@none"`, "198.51.100.7", "0.0.0.0/1", `"::/0"`, "0.0.0.0/0")
}

func (g *Generator) destinations() string {
	if g.chance(15) {
		return "gateway"
	}
	return g.addresses()
}

func (g *Generator) ports() string { return g.some("80", "443", "8000-8010", "53", "1-65535", "21") }

// protocol gives protocols, and ports where they have any.
func (g *Generator) protocol() string {
	if g.chance(40) {
		return ""
	}
	p := g.some("tcp", "udp", "sctp", "udplite", "tcp", "udp")
	if g.chance(25) {
		return ", protocol: " + g.some("icmp", "icmpv6", "gre", "esp", "ah", "47", "132", "tcp")
	}
	return ", protocol: " + p + g.maybe(70, "ports", g.ports)
}

func (g *Generator) family() string {
	return g.maybe(8, "family", func() string { return g.of("ipv4", "ipv6") })
}

func (g *Generator) narrowed() string {
	return g.maybe(25, "sources", g.addresses) + g.maybe(15, "except_sources", g.addresses) +
		g.maybe(20, "destinations", g.destinations) + g.maybe(15, "except_destinations", g.destinations)
}

func (g *Generator) log() string {
	return g.maybe(15, "log", func() string {
		return g.of("true", `{prefix: "%s; #'{x}@&|*?~!: "}`, "{prefix: \""+strings.Repeat("y", 63)+"\"}", "{level: debug, rate: 3/minute}", "{group: 7, rate: {limit: 5/hour, burst: 9}}", "{group: 0}")
	})
}

func (g *Generator) limits() string {
	return g.maybe(15, "max_connections", func() string {
		return g.timeless("{per_host: 60000, total: 65000}", "{per_host: 10}", "{total: 100}", "{per_host: 7, total: 9}")
	})
}

// timeless gives what is never reached where that is asked for, else one of the
// others.
func (g *Generator) timeless(never string, list ...string) string {
	if g.Timeless {
		return never
	}
	return g.of(list...)
}

func (g *Generator) attributes() string {
	return g.limits() + g.log() +
		g.maybe(15, "timeouts", func() string {
			return g.of("{tcp: {established: 2h4m}}", "{udp: {unreplied: 16s, replied: 3m}}", "{tcp: {syn_sent: 9s, close: 3s}, udp: {replied: 1m}}")
		}) +
		g.maybe(20, "helpers", func() string {
			return g.some("ftp", "ftp", "ftp", "irc", "sip", "tftp", "pptp", "h323", "amanda", "sane", "snmp", "netbios-ns", "{ftp: [21, 2121]}")
		})
}

func (g *Generator) masquerade(n int, pool string) string {
	if pool != "" && g.chance(30) {
		return fmt.Sprintf("{name: e%d, from: lan, to: %s, addresses: [203.0.113.%d, 203.0.113.%d], sources: 192.168.1.%d-192.168.1.%d, ports_per_host: %s", n, g.outside(), 10+n, 40+n, 10*n, 10*n+9, g.of("64", "1000", "4032")) + g.attributes() + "}"
	}
	// Both sections use the same names.
	return fmt.Sprintf("{name: %s, from: %s, to: %s%s", g.name(n), g.inside(), g.outside(), pool) + g.family() + g.narrowed() + g.protocol() +
		g.maybe(15, "outside_ports", func() string {
			return g.timeless(g.of("32768-65535", "400-900"), "32768-65535", "1024-1024", "400-600")
		}) +
		g.maybe(20, "port_selection", func() string { return g.of("preserve", "random", "fully-random") }) +
		g.maybe(15, "forward", func() string { return "false" }) + g.attributes() + "}"
}

func (g *Generator) pool() string {
	return ", addresses: " + g.some("203.0.113.10", "203.0.113.16/28", "203.0.113.40-203.0.113.44", `"2001:db8:113::10"`, `"2001:db8:113::20-2001:db8:113::2f"`) +
		g.maybe(30, "distribution", func() string { return g.of("persistent", "kernel", "round-robin") }) +
		g.maybe(20, "ports_per_host", func() string { return g.of("64", "1000", "4032") })
}

func (g *Generator) oneToOne(n int) string {
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

func (g *Generator) portForward(n int) string {
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

func (g *Generator) redirect(n int) string {
	return fmt.Sprintf("{name: %s, from: %s", g.name(n), g.inside()) + g.family() + g.of(", protocol: icmp", ", protocol: tcp, ports: 80, to_port: 3128", ", protocol: [tcp, udp], ports: 53", ", protocol: udp, ports: 1000-2000, to_port: 9", ", protocol: tcp, ports: [25, 26]") +
		g.narrowed() + g.maybe(30, "local", func() string { return "true" }) + g.log() + "}"
}

func (g *Generator) rule(n int, input bool) string {
	action := g.of("accept", "accept", "drop", "reject")
	e := fmt.Sprintf("{name: %s, action: %s", g.name(n), action) + g.family() + g.maybe(70, "from", func() string { return g.some("lan", "dmz", "wan", "wan2", "guest", "vpn", "uplink", "any") })
	if !input {
		e += g.maybe(60, "to", func() string { return g.some("lan", "dmz", "wan", "wan2", "uplink", "any") })
	}
	e += g.maybe(15, "mark", func() string { return g.of("0x1/0xff", "0x30000", "7") })
	if g.chance(8) {
		e = fmt.Sprintf("{name: e%d, action: accept, synproxy: true", n)
		if !input && g.chance(60) {
			e += ", to: " + g.some("lan", "dmz")
		}
		return e + ", protocol: tcp, ports: " + g.ports() + "}"
	}
	if g.chance(20) {
		e += ", protocol: " + g.of("[icmp, icmpv6]", "icmp") + ", icmp_types: " + g.some("echo-request", "destination-unreachable", "echo-reply")
	} else {
		e += g.protocol()
	}
	rated := 20
	if g.Timeless && action != "accept" {
		rated = 0 // what is refused within a rate passes above it
	}
	return e + g.narrowed() + g.maybe(10, "source_ports", g.ports) + g.limits() + g.log() +
		g.maybe(rated, "rate", func() string {
			return g.timeless("{limit: 1000000/second, burst: 60000}", "10/second", "{limit: 5/minute, burst: 5, per: source}", "{limit: 1/day, burst: 1, per: source}", "100/hour")
		}) + "}"
}
