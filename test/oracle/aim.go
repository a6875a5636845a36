package oracle

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/random"
)

// aim makes packets that are near what a policy is about.
type aim struct {
	*rand.Rand
	all    focus   // of all of the policy
	lines  []focus // of each of its lines, which are its entries
	hosts  [2][]netip.Addr
	own    [2][]netip.Addr
	on     map[string]*[2][]netip.Addr // hosts by the link that leads to them
	routes *link.Routes
	taken  map[tuple]bool
	seen   map[way]int
}

// focus is what a part of a policy names.
type focus struct {
	addresses [2][]netip.Addr // by family: with their neighbours
	ports     []uint16
	protocols []uint8
	links     []string
}

var (
	addressText = regexp.MustCompile(`[0-9a-f]*:[0-9a-f:]+[0-9a-f:](/\d+)?|\d+\.\d+\.\d+\.\d+(/\d+)?`)
	numberText  = regexp.MustCompile(`\b\d{1,5}\b`)
)

// newAim takes what looks like an address, a port, a protocol or a zone in each
// line of a policy.
func newAim(r *rand.Rand, p *random.Policy, g *Gateway) *aim {
	a := &aim{Rand: r, routes: g.routes, taken: map[tuple]bool{}, seen: map[way]int{}, on: map[string]*[2][]netip.Addr{}}
	for _, x := range links {
		a.on[x.name] = &[2][]netip.Addr{}
	}
	words := map[string]focus{}
	for _, s := range p.Parsed.Sets {
		var f focus
		for _, x := range s.Addresses {
			a.near(&f, x.Low)
			a.near(&f, x.High)
		}
		words["@"+s.Name] = f
	}
	for _, z := range p.Parsed.Zones {
		var f focus
		for _, i := range z.Interfaces {
			for _, x := range links {
				if i.Matches(x.name) {
					f.links = append(f.links, x.name)
				}
			}
		}
		for _, x := range z.Networks {
			if x.Set == "" {
				a.near(&f, x.Low)
				a.near(&f, x.High)
			}
		}
		words[z.Name] = f
	}
	for line := range strings.Lines(p.Text) {
		f := a.focus(line, words)
		a.all.join(f)
		if strings.Contains(line, "{") {
			a.lines = append(a.lines, f)
		}
	}
	for _, text := range []string{
		"192.168.1.10", "192.168.1.33", "192.168.1.200", "192.168.2.10", "192.168.2.77", "192.168.3.5", "10.9.3.4", "10.8.1.2", "172.20.0.2",
		"8.8.8.8", "203.0.113.1", "203.0.113.77", "198.51.100.7", "198.18.0.1", "172.31.0.1",
		"fd00:1::10", "fd00:1::77", "fd00:2::10", "fd00:3::5", "fd00:9::4", "fd00:8::2", "2001:db8:5::5", "2001:db8:113::77", "2001:db8:51::7", "2600::1", "fd00:dead::1",
	} {
		a.host(netip.MustParseAddr(text))
	}
	for _, list := range a.all.addresses {
		for _, x := range list {
			a.host(x)
		}
	}
	for _, x := range g.own() {
		if !x.IsLoopback() {
			a.own[family(x)] = append(a.own[family(x)], x)
		}
	}
	a.all.ports = append(a.all.ports, 7, 22, 80, 443, 1023, 1024, 40000, 65535, 1)
	a.lines = append(a.lines, a.all)
	return a
}

func (a *aim) host(x netip.Addr) {
	if k := a.routes.Kind(x); !x.IsValid() || k == ruleset.RTNLocal || k == ruleset.RTNBroadcast || x.IsMulticast() {
		return
	}
	a.hosts[family(x)] = append(a.hosts[family(x)], x)
	for _, name := range a.routes.Leaves(x) {
		if on := a.on[name]; on != nil {
			on[family(x)] = append(on[family(x)], x)
		}
	}
}

var word = regexp.MustCompile(`@?[a-z][a-z0-9-]*`)

func (a *aim) focus(line string, words map[string]focus) (f focus) {
	for _, found := range addressText.FindAllString(line, -1) {
		if p, err := netip.ParsePrefix(found); err == nil {
			a.near(&f, p.Masked().Addr())
			a.near(&f, lastOf(p))
			a.add(&f, a.within(p))
		} else if x, err := netip.ParseAddr(found); err == nil {
			a.near(&f, x)
		}
	}
	for _, text := range numberText.FindAllString(addressText.ReplaceAllString(line, ""), -1) {
		if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65536 {
			f.ports = append(f.ports, uint16(n), uint16(n), uint16(max(n-1, 1)), uint16(min(n+1, 65535)))
		}
	}
	for _, w := range word.FindAllString(line, -1) {
		f.join(words[w])
		if p, ok := map[string]uint8{"tcp": tcp, "udp": udp, "sctp": sctp, "udplite": udplite, "icmp": icmp4, "icmpv6": icmp6, "gre": gre, "esp": 50, "ah": ah}[w]; ok {
			f.protocols = append(f.protocols, p)
		}
	}
	return f
}

func (f *focus) join(o focus) {
	for i := range f.addresses {
		f.addresses[i] = append(f.addresses[i], o.addresses[i]...)
	}
	f.ports, f.protocols, f.links = append(f.ports, o.ports...), append(f.protocols, o.protocols...), append(f.links, o.links...)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// compatible are addresses that IPv6 has given up, and that the kernel has no
// address to redirect to for (nf_nat_redirect_ipv6).
var compatible = netip.MustParsePrefix("::/96")

func (a *aim) add(f *focus, x netip.Addr) {
	if x.IsValid() && !(compatible.Contains(x) && x != netip.IPv6Loopback()) {
		f.addresses[family(x)] = append(f.addresses[family(x)], x)
	}
}

func (a *aim) near(f *focus, x netip.Addr) {
	a.add(f, x)
	a.add(f, x)
	if x.IsValid() && x != netip.IPv6Loopback() {
		a.add(f, x.Prev())
		a.add(f, x.Next())
	}
}

// within is some address of a prefix.
func (a *aim) within(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8 && i < p.Bits()+16; i++ {
		if at := len(b)*8 - 1 - (i - p.Bits()); a.IntN(2) == 0 && at >= p.Bits() {
			b[at/8] |= 0x80 >> (at % 8)
		}
	}
	x, _ := netip.AddrFromSlice(b)
	return x
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	x, _ := netip.AddrFromSlice(b)
	return x
}

func (a *aim) chance(percent int) bool { return a.IntN(100) < percent }

func pick[T any](a *aim, list []T) T { return list[a.IntN(len(list))] }

func (a *aim) port(f *focus) uint16 {
	switch {
	case a.chance(10):
		return uint16(1 + a.IntN(65535))
	case a.chance(80) && len(f.ports) > 0:
		return pick(a, f.ports)
	}
	return pick(a, a.all.ports)
}

// shots is how many packets are made for one that is sent.
const shots = 16

// packets makes so many, each of a flow of its own. Most are chosen for what the
// judge says of them: what was seldom seen so far. The others are not, as the
// judge may be wrong.
func (a *aim) packets(n int, j *judge) (list []*Packet) {
	for range n * 4 {
		if len(list) == n {
			break
		}
		var best *Packet
		var least way
		tries := 1
		if a.chance(75) {
			tries = shots
		}
		for range tries {
			p := a.packet()
			if a.taken[tupleOf(p)] {
				continue
			}
			if w := j.way(p); best == nil || a.seen[w] < a.seen[least] {
				best, least = p, w
			}
		}
		if best == nil {
			continue
		}
		a.seen[least]++
		a.taken[tupleOf(best)] = true
		list = append(list, best)
	}
	clear(a.taken)
	return list
}

// way is what packets have in common that the same entries decide about.
type way struct {
	by, destination, source *ruleset.Origin
	verdict                 ruleset.ActionKind
	at                      ruleset.HookPoint
	local, unrouted, own    bool
	family                  int
}

func (j *judge) way(p *Packet) way {
	r := j.walk(j.packet(p))
	return way{r.By, r.DNAT.Origin, r.SNAT.Origin, r.Verdict, r.At, r.Local, r.Unrouted, p.In == "", family(p.Source)}
}

var many = [2][]string{
	{"255.255.255.255", "192.168.1.255", "203.0.113.255", "192.168.2.0", "224.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.3.4"},
	{"ff02::1", "ff02::2", "::1", "fe80::77", "fd00:1::"},
}

func (a *aim) packet() *Packet {
	f, at := 0, &a.all
	if a.chance(40) {
		f = 1
	}
	if a.chance(85) {
		at = &a.lines[a.IntN(len(a.lines))]
	}
	if len(at.addresses[f]) == 0 && len(at.addresses[1-f]) > 0 && a.chance(70) {
		f = 1 - f // it is about the other family
	}
	p := &Packet{HopLimit: 64}
	if p.Destination = a.destination(at, f); f == 1 && p.Destination.IsUnspecified() {
		p.Destination = pick(a, a.hosts[f]) // the kernel sends it to itself, or to others
	}
	switch n := a.IntN(100); {
	case n < 9 && !groups(a.routes, p.Destination):
		p.Source = a.ours(f)
		if p.Destination.IsLoopback() {
			p.Source = p.Destination
		}
	default:
		if len(at.links) > 0 && n < 55 {
			p.In = at.links[0]
		} else if len(at.links) > 0 && n < 85 {
			p.In = pick(a, at.links)
		} else {
			p.In = pick(a, links).name
		}
		p.Source = a.source(at, f, p.In)
	}
	if a.routes.Kind(p.Source) == ruleset.RTNBroadcast && p.Source.Is4() && p.Source != netip.IPv4Unspecified() {
		p.Source = pick(a, a.hosts[f]) // refused where there are rules of routing, and else not
	}
	if f == 1 && p.Destination.IsLinkLocalUnicast() && len(a.routes.Leaves(p.Source)) > 1 {
		// Of several routes back IPv6 takes that of the link which has the
		// destination, if that is of one link alone (__rt6_device_match).
		p.Destination = pick(a, a.hosts[f])
	}
	a.protocol(p, at, f)
	return p
}

// ours is an address of the gateway that others than neighbours know.
func (a *aim) ours(f int) netip.Addr {
	for {
		if x := pick(a, a.own[f]); !x.IsLinkLocalUnicast() {
			return x
		}
	}
}

func (a *aim) destination(at *focus, f int) netip.Addr {
	switch n := a.IntN(100); {
	case n < 4:
		return netip.MustParseAddr(pick(a, many[f]))
	case n < 28:
		return pick(a, a.own[f])
	case n < 50 && len(at.addresses[f]) > 0:
		return pick(a, at.addresses[f])
	case n < 85 && len(at.links) > 0:
		to := at.links[len(at.links)-1]
		if n > 75 {
			to = pick(a, at.links)
		}
		if on := a.on[to]; len(on[f]) > 0 {
			return pick(a, on[f])
		}
	}
	return pick(a, a.hosts[f])
}

func (a *aim) source(at *focus, f int, in string) netip.Addr {
	n := a.IntN(100)
	if n < 40 {
		var honest []netip.Addr
		for _, x := range at.addresses[f] {
			if slices.Contains(a.routes.Leaves(x), in) {
				honest = append(honest, x)
			}
		}
		if len(honest) > 0 {
			return pick(a, honest)
		}
	}
	switch {
	case n < 82 && len(a.on[in][f]) > 0:
		return pick(a, a.on[in][f])
	case n < 88:
		return a.ours(f)
	case n < 90:
		return netip.MustParseAddr(pick(a, append(many[f], "::", "0.0.0.0")[:len(many[f])+f]))
	}
	return pick(a, a.hosts[f])
}

// groups says whether an address is that of many, or of many links: of what the
// gateway itself sends there it gets a copy, or it has to name the link.
func groups(routes *link.Routes, d netip.Addr) bool {
	k := routes.Kind(d)
	return d.IsUnspecified() || d.IsMulticast() || d.IsLinkLocalUnicast() || k == ruleset.RTNBroadcast
}

func (a *aim) protocol(p *Packet, at *focus, f int) {
	icmp, ping := uint8(icmp4), uint8(8)
	if f == 1 {
		icmp, ping = icmp6, 128
	}
	p.Flags = ruleset.TCPSyn
	n := a.IntN(100)
	if len(at.protocols) > 0 && a.chance(80) {
		n = map[uint8]int{tcp: 0, udp: 42, sctp: 70, udplite: 75, icmp4: 80, icmp6: 80}[pick(a, at.protocols)]
		if n == 0 && !slices.Contains(at.protocols, tcp) {
			n = 95
		}
	}
	switch {
	case n < 42:
		p.Protocol = tcp
		if a.chance(12) {
			flags := []uint8{ruleset.TCPAck, ruleset.TCPRst, ruleset.TCPSyn | ruleset.TCPAck, ruleset.TCPFin | ruleset.TCPAck, ruleset.TCPRst | ruleset.TCPAck, 0, 0x29, 0x18, 0xc2, 0x22, ruleset.TCPFin}
			p.Flags = flags[a.IntN(len(flags))]
		}
	case n < 70:
		p.Protocol = udp
	case n < 75:
		p.Protocol = sctp
	case n < 80:
		p.Protocol = udplite
	case n < 92:
		p.Protocol, p.ICMPType = icmp, ping
		if a.chance(35) {
			types := [2][]uint8{{0, 3, 4, 5, 11, 12, 13, 15, 17, 9, 10, 14, 40}, {1, 2, 3, 4, 129, 130, 131, 133, 134, 135, 136, 137, 143, 200}}[f]
			p.ICMPType = types[a.IntN(len(types))]
		}
	default:
		p.Protocol = []uint8{gre, 50, ah, 89, 2, 33}[a.IntN(6)]
		if p.Protocol == 33 || f == 1 && p.Protocol == ah {
			p.Protocol = 253
		}
	}
	if p.Protocol != tcp {
		p.Flags = 0
	}
	if hasPorts(p.Protocol) {
		p.SourcePort, p.DestinationPort = uint16(1024+a.IntN(64000)), a.port(at)
		if a.chance(20) {
			p.SourcePort = a.port(at)
		}
	} else if p.identified() {
		p.SourcePort = uint16(a.IntN(65536))
	}
	if a.chance(3) {
		p.HopLimit = []uint8{255, 255, 2}[a.IntN(3)]
	}
}
