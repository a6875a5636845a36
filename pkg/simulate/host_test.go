package simulate_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// table is the routes that a host has: networks to interfaces.
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
		return link.KindLocal
	case a.IsMulticast():
		return link.KindMulticast
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return link.KindBroadcast
	}
	return link.KindUnicast
}

func (r *table) LocalOn(a netip.Addr, iface string) bool { return slices.Contains(r.on[iface], a) }

func (r *table) Way(to netip.Addr) []string {
	if list := r.Leaves(to); len(list) > 0 {
		return list[:1]
	}
	return nil
}

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

// host is a gateway with an inside network, a second one, and an uplink. More are
// links, as "eth3 198.51.100.1/24"; the last of them may be a default route too.
func host(links map[string][]string, uplinks ...string) (link.Facts, *table) {
	all := map[string][]string{
		"lo":   {"127.0.0.1/8", "::1/128"},
		"eth0": {"203.0.113.1/24", "2001:db8::1/64", "fe80::1/64"},
		"eth1": {"192.168.1.1/24", "fd00:1::1/64", "fe80::1/64"},
		"eth2": {"192.168.2.1/24", "fd00:2::1/64"},
	}
	for name, list := range links {
		all[name] = list
	}
	f, r := link.Facts{}, &table{on: map[string][]netip.Addr{}, local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		l := link.Link{Name: name, Index: i + 1, Up: true, Carrier: true, Kind: "veth"}
		for _, text := range all[name] {
			p := netip.MustParsePrefix(text)
			l.Addresses = append(l.Addresses, link.Address{Prefix: p})
			r.on[name] = append(r.on[name], p.Addr())
			r.local = append(r.local, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
			r.to = append(r.to, way{p.Masked(), []string{name}})
		}
		f.Links = append(f.Links, l)
	}
	uplinks = append([]string{"eth0"}, uplinks...)
	for _, any := range []string{"0.0.0.0/0", "::/0"} {
		r.to = append(r.to, way{netip.MustParsePrefix(any), uplinks})
	}
	for _, name := range uplinks {
		f.Defaults = append(f.Defaults,
			link.DefaultRoute{Family: link.IPv4, Interface: name, Table: link.MainTable, Gateway: netip.MustParseAddr("203.0.113.254")},
			link.DefaultRoute{Family: link.IPv6, Interface: name, Table: link.MainTable, Gateway: netip.MustParseAddr("2001:db8::ff")})
	}
	return f, r
}

// on is a gateway with a policy in force.
func on(t testing.TB, f link.Facts, r *table, text string) *simulate.Gateway {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	facts := compile.Facts{Host: true, DefaultRoutes: f.DefaultInterfaces()}
	for _, l := range f.Links {
		x := compile.Link{Name: l.Name}
		for _, a := range l.Addresses {
			x.Addresses = append(x.Addresses, a.Prefix)
		}
		facts.Links = append(facts.Links, x)
	}
	c, err := compile.Compile(p, facts)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return simulate.New(c.Ruleset, facts.Resolve(p), f, r)
}
