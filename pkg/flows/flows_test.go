package flows_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// table is routes by prefix: the longest that has an address leads to it.
type table struct {
	local []netip.Prefix
	to    []way
	on    map[string][]netip.Addr
}

type way struct {
	to  netip.Prefix
	via []string
}

func (r *table) Kind(a netip.Addr) uint32 {
	switch {
	case slices.ContainsFunc(r.local, func(p netip.Prefix) bool { return p.Contains(a) }):
		return 2
	case a.IsMulticast():
		return 5
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return 3
	}
	return 1
}

// Starts gives where the prefixes begin and end.
func (r *table) Starts(most int) (starts []netip.Addr, ok bool) {
	prefixes := slices.Clone(r.local)
	for _, w := range r.to {
		prefixes = append(prefixes, w.to)
	}
	for _, list := range r.on {
		for _, a := range list {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, p := range prefixes {
		starts = append(starts, p.Masked().Addr())
		b := p.Masked().Addr().AsSlice()
		for i := p.Bits(); i < 8*len(b); i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		if last, _ := netip.AddrFromSlice(b); last.Next().IsValid() {
			starts = append(starts, last.Next())
		}
	}
	return starts, len(starts) <= most
}

func (r *table) LocalOn(a netip.Addr, iface string) bool { return slices.Contains(r.on[iface], a) }

func (r *table) Leaves(to netip.Addr) []string {
	best := -1
	var via []string
	for _, w := range r.to {
		if w.to.Contains(to) && w.to.Bits() > best {
			best, via = w.to.Bits(), w.via
		}
	}
	return via
}

// Way is the first of them, which is the best of several metrics.
func (r *table) Way(to netip.Addr) []string {
	if list := r.Leaves(to); len(list) > 0 {
		return list[:1]
	}
	return nil
}

// gateway is a host with an inside network, a second one, and uplinks.
func gateway() link.Facts {
	l := func(index int, name string, addresses ...string) link.Link {
		out := link.Link{Name: name, Index: index, Up: true, Carrier: true, Kind: "veth"}
		for _, a := range addresses {
			out.Addresses = append(out.Addresses, link.Address{Prefix: netip.MustParsePrefix(a)})
		}
		return out
	}
	f := link.Facts{Links: []link.Link{
		l(1, "lo", "127.0.0.1/8", "::1/128"),
		l(2, "eth0", "203.0.113.1/24", "203.0.113.9/24", "2001:db8::1/64", "fe80::1/64"),
		l(3, "eth1", "192.168.1.1/24", "fd00:1::1/64", "fe80::1/64"),
		l(4, "eth2", "192.168.2.1/24", "fd00:2::1/64"),
		l(5, "eth3", "198.51.100.1/24", "2001:db8:3::1/64"),
		l(6, "docker0", "172.17.0.1/16"),
	}}
	f.Defaults = []link.DefaultRoute{
		{Family: link.IPv4, Interface: "eth0", Table: link.MainTable, Gateway: netip.MustParseAddr("203.0.113.254")},
		{Family: link.IPv4, Interface: "eth3", Table: link.MainTable, Metric: 100, Gateway: netip.MustParseAddr("198.51.100.254")},
		{Family: link.IPv6, Interface: "eth0", Table: link.MainTable, Gateway: netip.MustParseAddr("2001:db8::ff")},
		{Family: link.IPv6, Interface: "eth3", Table: link.MainTable, Metric: 100, Gateway: netip.MustParseAddr("2001:db8:3::ff")},
	}
	return f
}

// routesOf makes the routes that such a host has.
func routesOf(f link.Facts) *table {
	r := &table{on: map[string][]netip.Addr{}}
	r.local = append(r.local, netip.MustParsePrefix("127.0.0.0/8"))
	for _, l := range f.Links {
		for _, a := range l.Addresses {
			own := a.Prefix.Addr()
			r.on[l.Name] = append(r.on[l.Name], own)
			r.local = append(r.local, netip.PrefixFrom(own, own.BitLen()))
			r.to = append(r.to, way{a.Prefix.Masked(), []string{l.Name}})
		}
	}
	any4, any6 := way{to: netip.MustParsePrefix("0.0.0.0/0")}, way{to: netip.MustParsePrefix("::/0")}
	for _, d := range f.Defaults {
		if d.Family == link.IPv4 {
			any4.via = append(any4.via, d.Interface)
		} else {
			any6.via = append(any6.via, d.Interface)
		}
	}
	r.to = append(r.to, any4, any6)
	return r
}

func compileFacts(f link.Facts) compile.Facts {
	out := compile.Facts{Host: true, DefaultRoutes: f.DefaultInterfaces(), Local: f.Local}
	for _, l := range f.Links {
		x := compile.Link{Name: l.Name}
		for _, a := range l.Addresses {
			x.Addresses = append(x.Addresses, a.Prefix)
		}
		out.Links = append(out.Links, x)
	}
	return out
}

func judgeOn(t testing.TB, f link.Facts, text string) *flows.Judge {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	facts := compileFacts(f)
	r, err := compile.Compile(p, facts)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return flows.NewJudge(r.Ruleset, facts.Resolve(p), f, routesOf(f))
}

// flow reads "tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.1:4000 >
// 198.51.100.1:443"; without an arrow nothing is translated. Words behind a
// semicolon are the mark.
func flow(t testing.TB, text string) *conntrack.Flow {
	t.Helper()
	f := &conntrack.Flow{Family: conntrack.IPv4}
	name, rest, _ := strings.Cut(text, " ")
	f.Protocol = map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47, "sctp": 132}[name]
	if f.Protocol == 0 {
		t.Fatalf("no protocol in %q", text)
	}
	end := func(s string) (netip.Addr, uint16) {
		s = strings.TrimSpace(s)
		if ap, err := netip.ParseAddrPort(s); err == nil {
			return ap.Addr(), ap.Port()
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return a, 0
	}
	half := func(s string) (out conntrack.Tuple) {
		from, to, _ := strings.Cut(s, ">")
		out.Source, out.SourcePort = end(from)
		out.Destination, out.DestinationPort = end(to)
		return out
	}
	before, after, translated := strings.Cut(rest, "->")
	f.Original = half(before)
	became := f.Original
	if translated {
		became = half(after)
	}
	f.Reply = conntrack.Tuple{Source: became.Destination, SourcePort: became.DestinationPort, Destination: became.Source, DestinationPort: became.SourcePort}
	if f.Protocol == 1 {
		f.Original.ICMPType = 8
	}
	if f.Protocol == 58 {
		f.Original.ICMPType = 128
	}
	if became.Source != f.Original.Source || became.SourcePort != f.Original.SourcePort {
		f.Status |= conntrack.StatusSNAT
	}
	if became.Destination != f.Original.Destination || became.DestinationPort != f.Original.DestinationPort {
		f.Status |= conntrack.StatusDNAT
	}
	if f.Original.Source.Is6() {
		f.Family = conntrack.IPv6
	}
	return f
}

// judged writes a judgement in one line: "lan wan masquerade lan-wan ours", or
// "wan lan - not: port_forward web is not translated".
func judged(j flows.Judgement) string {
	word := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	out := word(j.From) + " " + word(j.To) + " " + word(j.Origin.Entry)
	if j.Ours {
		out += " ours"
	}
	if j.Foreign {
		out += " foreign"
	}
	if !j.Fits {
		out += " not: " + word(j.Wants.Entry) + " " + j.Why
	} else if j.Why != "" && !j.Foreign || j.Wants.Entry != "" {
		out += " fits and " + j.Wants.Entry + j.Why
	}
	return out
}

const home = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2]}
  guests: {interfaces: [eth1], networks: [192.168.1.128/25]}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: inside, from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: [80, 443], to: 192.168.2.10}
  - {name: alt, from: wan, protocol: tcp, ports: 8080, to: 192.168.1.10:80}
  - {name: games, from: wan, protocol: [tcp, udp], ports: 27000-27100, to: 192.168.1.20}
  - {name: shift, from: wan, protocol: udp, ports: 5000-5010, to: 192.168.1.21:6000-6010}
  - {name: admin, from: wan, protocol: tcp, ports: 2222, to: 192.168.1.10:22, sources: 9.9.9.0/24}
  - {name: six, from: wan, protocol: tcp, ports: 80, to: "[fd00:2::10]:8080"}
forward:
  rules:
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
    - {name: to-dmz, from: lan, to: dmz, protocol: tcp, ports: [22, 80], action: accept}
    - {name: ping, from: any, protocol: icmp, icmp_types: echo-request, action: accept}
input:
  default: drop
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept}
    - {name: ping, from: any, protocol: icmp, icmp_types: echo-request, action: accept}
`

type expectation struct{ flow, want string }

func check(t *testing.T, j *flows.Judge, list []expectation) {
	t.Helper()
	for _, c := range list {
		if got := judged(j.Judge(flow(t, c.flow))); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.flow, got, c.want)
		}
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	check(t, judgeOn(t, gateway(), home), []expectation{
		// Masquerade, of any port and of each address that the uplink has.
		{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "lan wan masquerade inside ours"},
		{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.9:61000 > 8.8.8.8:443", "lan wan masquerade inside ours"},
		{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.77:4000 > 8.8.8.8:443", "lan wan - not: masquerade inside would leave as 203.0.113.1"},
		{"tcp 192.168.1.10:4000 > 8.8.8.8:443", "lan wan - not: masquerade inside is not translated"},
		{"tcp 192.168.1.10:4000 > 8.8.8.8:25 -> 203.0.113.1:4000 > 8.8.8.8:25", "lan wan - not: forward no-smtp would be rejected"},
		{"icmp 192.168.1.10 > 8.8.8.8 -> 203.0.113.1 > 8.8.8.8", "lan wan masquerade inside ours"},
		{"gre 192.168.1.10 > 8.8.8.8 -> 203.0.113.1 > 8.8.8.8", "lan wan masquerade inside ours"},
		{"udp [fd00:1::10]:4000 > [2001:db8:f::1]:53 -> [2001:db8::1]:4000 > [2001:db8:f::1]:53", "lan wan masquerade inside ours"},
		{"udp [fd00:1::10]:4000 > [2001:db8:f::1]:53 -> [fe80::1]:4000 > [2001:db8:f::1]:53", "lan wan - not: masquerade inside would leave as 2001:db8::1"},
		{"udp [fd00:1::10]:4000 > [2001:db8:f::1]:53", "lan wan - not: masquerade inside is not translated"},
		// Port forwards.
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80 -> 8.8.8.8:4000 > 192.168.2.10:80", "wan dmz port_forward web ours"},
		{"tcp 8.8.8.8:4000 > 203.0.113.9:443 -> 8.8.8.8:4000 > 192.168.2.10:443", "wan dmz port_forward web ours"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80 -> 8.8.8.8:4000 > 192.168.2.11:80", "wan dmz - not: port_forward web would go to 192.168.2.10:80"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80", "wan gateway - not: port_forward web is not translated"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:8080 -> 8.8.8.8:4000 > 192.168.1.10:80", "wan lan port_forward alt ours"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:8080 -> 8.8.8.8:4000 > 192.168.1.10:81", "wan lan - not: port_forward alt would go to 192.168.1.10:80"},
		{"udp 8.8.8.8:4000 > 203.0.113.1:27050 -> 8.8.8.8:4000 > 192.168.1.20:27050", "wan lan port_forward games ours"},
		{"udp 8.8.8.8:4000 > 203.0.113.1:27050 -> 8.8.8.8:4000 > 192.168.1.20:27051", "wan lan - not: port_forward games would go to 192.168.1.20:27050"},
		{"udp 8.8.8.8:4000 > 203.0.113.1:5005 -> 8.8.8.8:4000 > 192.168.1.21:6005", "wan lan port_forward shift ours"},
		{"tcp 9.9.9.7:4000 > 203.0.113.1:2222 -> 9.9.9.7:4000 > 192.168.1.10:22", "wan lan port_forward admin ours"},
		{"tcp [2001:db8:f::1]:4000 > [2001:db8::1]:80 -> [2001:db8:f::1]:4000 > [fd00:2::10]:8080", "wan dmz port_forward six ours"},
		// An entry that is gone, and one whose source is another.
		{"tcp 8.8.8.8:4000 > 203.0.113.1:81 -> 8.8.8.8:4000 > 192.168.2.10:80", "wan dmz - foreign not: forward default would be dropped"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:2222 -> 8.8.8.8:4000 > 192.168.1.10:22", "wan lan - foreign not: port_forward would not be translated"},
		// Hairpin: from the target's own network with a new source, from elsewhere without.
		{"tcp 192.168.2.5:4000 > 203.0.113.1:80 -> 192.168.2.1:4000 > 192.168.2.10:80", "dmz dmz port_forward web ours"},
		{"tcp 192.168.2.5:4000 > 203.0.113.1:80 -> 192.168.2.5:4000 > 192.168.2.10:80", "dmz dmz port_forward web ours not: port_forward is not translated"},
		{"tcp 192.168.1.5:4000 > 203.0.113.1:80 -> 192.168.1.5:4000 > 192.168.2.10:80", "lan dmz port_forward web ours"},
		{"tcp 192.168.1.5:4000 > 192.168.1.1:80 -> 192.168.1.5:4000 > 192.168.2.10:80", "lan dmz - foreign"},
		{"tcp 203.0.113.1:4000 > 203.0.113.1:80 -> 203.0.113.1:4000 > 192.168.2.10:80", "gateway dmz port_forward web ours"},
		// Plain forwards, and the narrowest zone.
		{"tcp 192.168.1.10:4000 > 192.168.2.10:22", "lan dmz forward to-dmz"},
		{"tcp 192.168.1.10:4000 > 192.168.2.10:23", "lan dmz - not: forward default would be dropped"},
		{"tcp 192.168.1.200:4000 > 192.168.2.10:22", "guests dmz - not: forward default would be dropped"},
		{"tcp 192.168.2.10:4000 > 192.168.1.200:22", "dmz guests - not: forward default would be dropped"},
		{"icmp 192.168.1.200 > 192.168.2.10", "guests dmz forward ping"},
		// To the gateway, and from it.
		{"tcp 192.168.1.10:4000 > 192.168.1.1:22", "lan gateway input ssh"},
		{"tcp 192.168.1.10:4000 > 203.0.113.1:22", "lan gateway input ssh"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:22", "wan gateway - not: input default would be dropped"},
		{"icmp 8.8.8.8 > 203.0.113.1", "wan gateway input ping"},
		{"udp 192.168.1.10:5353 > 224.0.0.251:5353", "lan gateway - not: input default would be dropped"},
		{"tcp 203.0.113.1:4000 > 8.8.8.8:443", "gateway wan -"},
		{"tcp 203.0.113.1:4000 > 192.168.1.10:443", "gateway lan -"},
		{"tcp 127.0.0.1:4000 > 127.0.0.1:443", "gateway gateway -"},
		{"udp 0.0.0.0:68 > 255.255.255.255:67", "- - -"},
		// From and to no zone, and what another table translated.
		{"tcp 172.17.0.2:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "- wan - foreign"},
		{"tcp 172.17.0.2:4000 > 192.168.1.10:443", "- lan -"},
		{"tcp 192.168.1.10:4000 > 203.0.113.1:8000 -> 192.168.1.10:4000 > 172.17.0.2:80", "lan - - foreign not: forward default would be dropped"},
	})
}
