package policytest

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Host is what is written of a host. What is left out is made up from the
// policy: see [Host.Build].
type Host struct {
	policy.Place
	Links  []Link
	Routes []Route
	Rules  []Rule
}

// Link is what is written of a link.
type Link struct {
	policy.Place
	Name         string
	Addresses    []netip.Prefix
	NoAddresses  bool // addresses: none
	Gateways     []netip.Addr
	NoGateway    bool // gateway: none
	PointToPoint bool
	Down         bool
}

// Route is what is written of a route. Link is "" where it is found out.
type Route struct {
	policy.Place
	To     netip.Prefix
	Via    netip.Addr
	Link   string
	Metric uint32
	Table  int
	Kind   uint32
}

// Rule leads what has a mark to a table. Without a family it is of both.
type Rule struct {
	policy.Place
	Mark     policy.Mark
	Table    int
	Priority int
}

// LoadHost reads the description of a host from a file of its own: what stands
// below `host` in a test file. Mistakes come back as [*Invalid].
func LoadHost(name string) (*Host, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the host: %w", err)
	}
	return ParseHost(name, text)
}

// ParseHost reads the description of a host from memory.
func ParseHost(name string, text []byte) (*Host, error) {
	r := policy.NewReader(name, text, "the file is empty; it takes `links`, `routes` and `rules`")
	h := &Host{}
	if root := r.Root(); root != nil {
		r.Takes("a host is a mapping with `links`, `routes` and `rules`")
		readHost(r, root, h)
	}
	if err := invalid(r); err != nil {
		return nil, err
	}
	return h, nil
}

func hostKeys() []policy.Key[Host] {
	return []policy.Key[Host]{
		{Name: "links", Takes: "a mapping of names to links", Read: readLinks},
		{Name: "routes", Takes: "a list of routes", Read: func(r *policy.Reader, n *policy.Node, h *Host) {
			r.Each(n, func(n *policy.Node) { h.Routes = append(h.Routes, readRoute(r, n)) })
		}},
		{Name: "rules", Takes: "a list of rules", Read: func(r *policy.Reader, n *policy.Node, h *Host) {
			r.Each(n, func(n *policy.Node) { h.Rules = append(h.Rules, readRule(r, n)) })
		}},
	}
}

func readHost(r *policy.Reader, n *policy.Node, h *Host) {
	h.Place = r.At(n)
	policy.ReadMapping(r, n, hostKeys(), h)
	for i := range h.Routes {
		h.Routes[i].check(r, h)
	}
}

func readLinks(r *policy.Reader, n *policy.Node, h *Host) {
	r.Pairs(n, func(name string, k, v *policy.Node) {
		l := Link{Place: r.At(k), Name: name}
		if _, ok := r.InterfaceName(k); !ok {
			return
		}
		if name == "lo" {
			r.Fail(k, "every host has lo; take it out")
			return
		}
		r.Takes("a link is a mapping with `addresses` and `gateway`")
		policy.ReadMapping(r, v, linkKeys(), &l)
		h.Links = append(h.Links, l)
	})
}

const booleanTakes = "true or false"

func linkKeys() []policy.Key[Link] {
	return []policy.Key[Link]{
		{Name: "addresses", Takes: "an address with the length of its network as 192.0.2.1/24, a list of these, or none", Read: func(r *policy.Reader, n *policy.Node, l *Link) {
			if l.NoAddresses = isNone(r, n); !l.NoAddresses {
				r.Each(n, func(n *policy.Node) { l.addAddress(r, n) })
			}
		}},
		{Name: "gateway", Takes: "the address of the next hop, a list of one for each family, or none", Read: func(r *policy.Reader, n *policy.Node, l *Link) {
			if l.NoGateway = isNone(r, n); !l.NoGateway {
				r.Each(n, func(n *policy.Node) {
					if a, ok := r.Address(n); ok {
						l.Gateways = append(l.Gateways, a.Low)
					}
				})
			}
		}},
		{Name: "point_to_point", Takes: booleanTakes, Read: func(r *policy.Reader, n *policy.Node, l *Link) { l.PointToPoint, _ = r.Boolean(n) }},
		{Name: "up", Takes: booleanTakes, Read: func(r *policy.Reader, n *policy.Node, l *Link) {
			up, ok := r.Boolean(n)
			l.Down = ok && !up
		}},
	}
}

// isNone says whether a value is the word none.
func isNone(r *policy.Reader, n *policy.Node) bool {
	if r.IsList(n) || r.IsMapping(n) {
		return false
	}
	return n.Value == "none"
}

func (l *Link) addAddress(r *policy.Reader, n *policy.Node) {
	text, ok := r.Text(n)
	if !ok {
		return
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		if a, bad := netip.ParseAddr(text); bad == nil {
			p = netip.PrefixFrom(a, a.BitLen())
			r.Fail(n, fmt.Sprintf("%s has no length of its network; write %s where it stands alone", a, p))
		} else {
			r.Fail(n, fmt.Sprintf("%q is not an address with the length of its network, as 192.0.2.1/24", text))
		}
	case p.Masked().Addr() == p.Addr() && p.Bits() < p.Addr().BitLen()-1:
		r.Fail(n, fmt.Sprintf("%s is a network; write the address that the host has there", p))
	case slices.ContainsFunc(l.Addresses, func(q netip.Prefix) bool { return q.Addr() == p.Addr() }):
		r.Fail(n, fmt.Sprintf("%s is there twice; take one out", p.Addr()))
	default:
		l.Addresses = append(l.Addresses, p)
	}
}

// kinds are the words for kinds of routes.
func kinds() map[string]uint32 {
	return map[string]uint32{"unicast": link.KindUnicast, "local": link.KindLocal, "blackhole": link.KindBlackhole,
		"unreachable": link.KindUnreachable, "prohibit": link.KindProhibit}
}

func routeKeys() []policy.Key[Route] {
	number := func(name string, put func(*Route, uint32)) policy.Key[Route] {
		return policy.Key[Route]{Name: name, Takes: "a number", Read: func(r *policy.Reader, n *policy.Node, to *Route) {
			v, _ := r.Number(n, 1, 1<<31-1)
			put(to, v)
		}}
	}
	return []policy.Key[Route]{
		{Name: "to", Takes: "a prefix, an address, or default", Read: func(r *policy.Reader, n *policy.Node, to *Route) {
			text, ok := r.Text(n)
			if !ok || text == "default" {
				return // of the family of via
			}
			for _, a := range r.Addresses(n) {
				if to.To, ok = a.Prefix(); !ok {
					r.Fail(n, fmt.Sprintf("%s is no prefix", a))
				}
			}
		}},
		{Name: "via", Takes: "the address of the next hop", Read: func(r *policy.Reader, n *policy.Node, to *Route) {
			a, _ := r.Address(n)
			to.Via = a.Low
		}},
		{Name: "link", Takes: "the name of a link", Read: func(r *policy.Reader, n *policy.Node, to *Route) { to.Link, _ = r.InterfaceName(n) }},
		number("metric", func(to *Route, v uint32) { to.Metric = v }),
		number("table", func(to *Route, v uint32) { to.Table = int(v) }),
		{Name: "kind", Takes: "unicast, local, blackhole, unreachable or prohibit", Read: func(r *policy.Reader, n *policy.Node, to *Route) {
			word, _ := r.Word(n, "kind of route", "unicast", "local", "blackhole", "unreachable", "prohibit")
			to.Kind = kinds()[word]
		}},
	}
}

func readRoute(r *policy.Reader, n *policy.Node) Route {
	to := Route{Place: r.At(n)}
	r.Takes("a route is a mapping with `to` and `via`, or `to` and `link`")
	m, ok := policy.ReadMapping(r, n, routeKeys(), &to)
	if !ok {
		return to
	}
	m.Require("a route", "to")
	refuses := to.Kind > link.KindUnicast && to.Kind != link.KindLocal
	switch {
	case refuses && (m.Has("via") || m.Has("link")):
		r.Fail(n, "a route that leads nowhere has neither `via` nor `link`; take them out")
	case !refuses && !m.Has("via") && !m.Has("link") && to.Kind != link.KindLocal:
		r.Fail(n, "a route needs `via`, `link` or both")
	case to.To.IsValid() && to.Via.IsValid() && to.To.Addr().Is4() != to.Via.Is4():
		r.Fail(n, fmt.Sprintf("the route to %s is of another family than %s", to.To, to.Via))
	}
	if !to.To.IsValid() {
		to.To = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if to.Via.Is6() {
			to.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	if to.Kind == link.KindLocal && to.Link == "" {
		to.Link = "lo"
	}
	return to
}

// check finds the link of a route where none is written. A made-up one is found
// when the host is.
func (to *Route) check(r *policy.Reader, h *Host) {
	if to.Link != "" || !to.Via.IsValid() {
		return
	}
	for _, l := range h.Links {
		for _, p := range l.Addresses {
			if p.Contains(to.Via) {
				to.Link = l.Name
				return
			}
		}
	}
}

func readRule(r *policy.Reader, n *policy.Node) Rule {
	x := Rule{Place: r.At(n)}
	r.Takes("a rule is a mapping with `mark` and `table`")
	m, ok := policy.ReadMapping(r, n, []policy.Key[Rule]{
		{Name: "mark", Takes: "a mark as 0x1/0xf", Read: func(r *policy.Reader, n *policy.Node, x *Rule) { x.Mark, _ = r.Mark(n) }},
		{Name: "table", Takes: "the number of a table", Read: func(r *policy.Reader, n *policy.Node, x *Rule) {
			v, _ := r.Number(n, 1, 1<<31-1)
			x.Table = int(v)
		}},
		{Name: "priority", Takes: "a number from 1 to 32765", Read: func(r *policy.Reader, n *policy.Node, x *Rule) {
			v, _ := r.Number(n, 1, 32765)
			x.Priority = int(v)
		}},
	}, &x)
	if ok {
		m.Require("a rule", "mark", "table")
	}
	if x.Priority == 0 {
		x.Priority = 1000
	}
	return x
}
