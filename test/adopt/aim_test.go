package adopt

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/oracle"
)

// aim makes packets that are about what rules name.
type aim struct {
	*rand.Rand
	named, hosts, own [2][]netip.Addr
	ports             []uint16
	on                map[string]*[2][]netip.Addr // by the link that leads there
	routes            *link.Routes
	taken             map[oracle.Ends]bool
}

var (
	addressText = regexp.MustCompile(`[0-9a-f]*:[0-9a-f:]+[0-9a-f:](/\d+)?|\d+\.\d+\.\d+\.\d+(/\d+)?`)
	numberText  = regexp.MustCompile(`\b\d{2,5}\b`)
)

func newAim(r *rand.Rand, text string, routes *link.Routes) *aim {
	a := &aim{Rand: r, routes: routes, on: map[string]*[2][]netip.Addr{}, taken: map[oracle.Ends]bool{}}
	for _, l := range oracle.Links() {
		a.on[l] = &[2][]netip.Addr{}
	}
	for _, found := range addressText.FindAllString(text, -1) {
		if p, err := netip.ParsePrefix(found); err == nil {
			first := p.Masked().Addr()
			for range 3 {
				first = first.Next()
			}
			a.name(p.Addr())
			a.name(first)
		} else if x, err := netip.ParseAddr(found); err == nil {
			a.name(x)
			a.name(x.Next())
		}
	}
	for _, found := range numberText.FindAllString(addressText.ReplaceAllString(text, ""), -1) {
		if n, err := strconv.Atoi(found); err == nil && n > 0 && n < 65535 && !slices.Contains(a.ports, uint16(n)) {
			a.ports = append(a.ports, uint16(n))
		}
	}
	for _, n := range slices.Clone(a.ports) {
		a.ports = append(a.ports, n, n+1)
	}
	a.ports = append(a.ports, 22, 53, 80, 443)
	for _, text := range []string{
		"192.168.1.10", "192.168.1.77", "192.168.1.200", "192.168.2.10", "192.168.2.20", "192.168.3.5", "10.9.3.4", "10.8.1.2", "172.20.0.2", "8.8.8.8", "203.0.113.77", "198.51.100.7",
		"fd00:1::10", "fd00:1::77", "fd00:2::10", "fd00:3::5", "fd00:9::4", "2001:db8:113::77", "2001:db8:51::7", "2600::1",
	} {
		a.host(netip.MustParseAddr(text))
	}
	for _, l := range routes.Facts.Links {
		for _, x := range l.Addresses {
			if y := x.Prefix.Addr(); !y.IsLoopback() && !y.IsLinkLocalUnicast() {
				a.own[family(y)] = append(a.own[family(y)], y)
			}
		}
	}
	return a
}

func family(x netip.Addr) int {
	if x.Is4() {
		return 0
	}
	return 1
}

func (a *aim) name(x netip.Addr) {
	if !x.IsValid() || x.IsUnspecified() || x.IsLoopback() || x.Is4In6() || x.IsLinkLocalUnicast() {
		return
	}
	a.named[family(x)] = append(a.named[family(x)], x)
	a.host(x)
}

func (a *aim) host(x netip.Addr) {
	if k := a.routes.Kind(x); k == ruleset.RTNLocal || k == ruleset.RTNBroadcast || x.IsMulticast() {
		return
	}
	a.hosts[family(x)] = append(a.hosts[family(x)], x)
	for _, l := range a.routes.Leaves(x) {
		if on := a.on[l]; on != nil {
			on[family(x)] = append(on[family(x)], x)
		}
	}
}

func pick[T any](a *aim, list []T) T { return list[a.IntN(len(list))] }

func (a *aim) packets(n int) (list []*oracle.Packet) {
	clear(a.taken)
	for len(list) < n {
		if p := a.packet(); p != nil && !a.taken[p.Ends] {
			a.taken[p.Ends] = true
			list = append(list, p)
		}
	}
	return list
}

func (a *aim) packet() *oracle.Packet {
	f := 0
	if a.IntN(100) < 30 {
		f = 1
	}
	p := &oracle.Packet{HopLimit: 64, In: pick(a, []string{"eth0", "eth0", "eth0", "eth1", "eth1", "eth1", "eth2", "eth2", "ppp0", "eth3", "br-0", "tun7"})}
	on := a.on[p.In][f]
	switch n := a.IntN(100); {
	case n < 8 && len(a.named[f]) > 0:
		p.Source = pick(a, a.named[f])
	case len(on) > 0:
		p.Source = pick(a, on)
	default:
		return nil
	}
	switch n := a.IntN(100); {
	case n < 35:
		p.Destination = pick(a, a.own[f])
	case n < 65 && len(a.named[f]) > 0:
		p.Destination = pick(a, a.named[f])
	default:
		p.Destination = pick(a, a.hosts[f])
	}
	if k := a.routes.Kind(p.Source); p.Source == p.Destination || k == ruleset.RTNLocal || k == ruleset.RTNBroadcast || p.Source.IsMulticast() || p.Destination.IsMulticast() ||
		a.routes.Kind(p.Destination) == ruleset.RTNBroadcast || p.Source.Is6() && p.Source == netip.PrefixFrom(p.Source, 64).Masked().Addr() {
		return nil
	}
	switch n := a.IntN(100); {
	case n < 55:
		p.Protocol, p.Flags = 6, ruleset.TCPSyn
		if a.IntN(100) < 4 {
			p.Flags = ruleset.TCPAck
		}
	case n < 82:
		p.Protocol = 17
	case n < 94 && f == 0:
		p.Protocol, p.ICMPType = 1, 8
	case n < 94:
		p.Protocol, p.ICMPType = 58, 128
	case n < 97:
		p.Protocol = 132
	default:
		p.Protocol = 47
	}
	switch p.Protocol {
	case 6, 17, 132:
		p.SourcePort, p.DestinationPort = uint16(1024+a.IntN(64000)), pick(a, a.ports)
		if a.IntN(100) < 4 {
			p.SourcePort = pick(a, a.ports)
		}
	case 1, 58:
		p.SourcePort = uint16(a.IntN(65536))
	}
	return p
}
