package compile

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// blocks is the division of a pool's ports among inside hosts, in one family:
// host number i has block number i (RFC 7422).
type blocks struct {
	entry      *policy.SNAT
	hosts      spans  // ascending
	public     []span // in the order of the policy
	first      uint16 // port of the first block of an address
	size       uint16 // ports of a block
	perAddress uint64 // blocks of an address
	count      uint64 // hosts
}

// Where blocks begin and end unless the policy says it, and the bounds of what
// is laid out: a host is an element of a map and, in IPv6, a block of an address
// a chain.
const (
	firstBlockPort = 1024
	mostDivided    = 1 << 20
	mostChains     = 1 << 10
)

// divide lays out the blocks of an entry by family, and refuses what does not
// fit.
func (c *compiler) divide(s *policy.SNAT, t *translator, p pool) (out [2]*blocks) {
	ports := policy.Ports{Place: s.Place, First: firstBlockPort, Last: 65535}
	if s.OutsidePorts != nil {
		ports = *s.OutsidePorts
	}
	t.outside = []policy.Ports{ports}
	inside, ok := c.insideOf(s, t)
	if !ok {
		return out
	}
	for f := range out {
		b := &blocks{entry: s, hosts: inside[f], public: p[f], first: ports.First, size: s.PortsPerHost, count: count(inside[f])}
		b.perAddress = uint64(ports.Count()) / uint64(b.size)
		if b.count == 0 || len(b.public) == 0 {
			continue
		}
		if problem := b.problem(f, ports); problem != "" {
			c.fail(s.Place, fmt.Sprintf("%s: %s", t.origin.Entry, problem))
			continue
		}
		used := policy.Ports{First: b.first, Last: b.first + uint16(min(b.count, b.perAddress)*uint64(b.size)-1)}
		for _, r := range c.reserved() {
			if used.First <= r.Last && r.First <= used.Last {
				c.fail(ports.Place, fmt.Sprintf("%s gives ports %s to hosts, and %s is reserved for the gateway; choose `outside_ports` without it, or %s", t.origin.Entry, used, r, c.unreserve()))
				break
			}
		}
		out[f] = b
	}
	return out
}

// insideOf gives the inside addresses whose place in ascending order is their
// number: those of sources, else of the zones' networks. Exceptions do not
// count, so that one more renumbers nobody.
func (c *compiler) insideOf(s *policy.SNAT, t *translator) (out [2]spans, ok bool) {
	if len(s.Sources) > 0 {
		list := split(s.Sources)
		return [2]spans{c.flat(&list, 0), c.flat(&list, 1)}, true
	}
	for _, z := range t.from {
		if len(z.Networks) == 0 {
			c.fail(s.Place, fmt.Sprintf("%s has `ports_per_host` and does not know its hosts; give it `sources`, or zone %s `networks`", t.origin.Entry, z.Name),
				policy.Note{Place: z.Place, Message: fmt.Sprintf("zone %s is declared here", z.Name)})
			return out, false
		}
		for f := range out {
			out[f] = merge(append(out[f], z.networks[f]...))
		}
	}
	return out, true
}

// problem says why the hosts have no room, and what would give it to them.
func (b *blocks) problem(f int, ports policy.Ports) string {
	addresses := count(b.public)
	room := b.perAddress * min(addresses, mostDivided)
	switch {
	case b.perAddress == 0:
		return fmt.Sprintf("a block of %d ports (`ports_per_host`) does not fit into ports %s, which are %d; write %d or less", b.size, ports, ports.Count(), ports.Count())
	case b.count > room:
		way := "add addresses, or name fewer hosts in `sources`"
		if each := (b.count + addresses - 1) / addresses; each <= uint64(ports.Count()) {
			way = fmt.Sprintf("write `ports_per_host: %d` or less, add addresses, or name fewer hosts in `sources`", uint64(ports.Count())/each)
		}
		return fmt.Sprintf("%s %s hosts do not fit into %d blocks of %d ports (public addresses: %d, blocks of each: %d); %s",
			hostsText(b.count), familyName(f), room, b.size, addresses, b.perAddress, way)
	case b.count > mostDivided:
		return fmt.Sprintf("%s %s hosts are too many to have a block of ports each; name at most %d in `sources`", hostsText(b.count), familyName(f), mostDivided)
	case f == 1 && min(b.count, b.perAddress) > mostChains:
		return fmt.Sprintf("an IPv6 address is divided into %d blocks, and at most %d are possible; write `ports_per_host: %d` or more, or fewer `outside_ports`",
			min(b.count, b.perAddress), mostChains, (ports.Count()+mostChains-1)/mostChains)
	}
	return ""
}

// hostsText writes a number of hosts, of which IPv6 has more than count counts.
func hostsText(n uint64) string {
	if n >= 1<<62 {
		return "more than 2^62"
	}
	return fmt.Sprint(n)
}

// each calls do with every host, its public address and its ports.
func (b *blocks) each(do func(host, public netip.Addr, ports policy.Ports)) {
	n := uint64(0)
	next := b.publicAddresses()
	var public netip.Addr
	eachAddr(b.hosts, func(host netip.Addr) bool {
		block := n % b.perAddress
		if block == 0 {
			public = next()
		}
		do(host, public, b.block(block))
		n++
		return true
	})
}

// publicAddresses gives a function that gives the next one.
func (b *blocks) publicAddresses() func() netip.Addr {
	list, at := b.public, netip.Addr{}
	return func() netip.Addr {
		switch {
		case !at.IsValid():
			at = list[0].lo
		case at == list[0].hi:
			list = list[1:]
			at = list[0].lo
		default:
			at = at.Next()
		}
		return at
	}
}

// block gives the ports of a block by its number within an address.
func (b *blocks) block(n uint64) policy.Ports {
	first := b.first + uint16(n)*b.size
	return policy.Ports{First: first, Last: first + b.size - 1}
}

// fromBlock is the translation of a host to its public address and, where
// something has ports, to the ports of its block.
func (c *compiler) fromBlock(t *translator, b *blocks, f int, ports policy.Ports) ruleset.Action {
	source := sources()[f]
	do := ruleset.Action{Kind: ruleset.SNAT, Family: familyOf(f), Fields: []ruleset.Field{source}, NAT: natPorts(&b.entry.Masquerade, policy.Ports{})}
	switch {
	case ports.First == 0:
		do.Map = c.publicOf(t, b, f)
		return do
	case f == 1:
		return ruleset.Action{Kind: ruleset.VerdictMap, Fields: do.Fields, Map: c.blockChains(t, b, do)}
	}
	m := ruleset.NewRangeMap(t.object+"_blocks"+familySuffix(f), []ruleset.Type{source.Type()}, []ruleset.Type{source.Type(), ruleset.InetService})
	do.Map = c.mapOf(m, t.origin, func() {
		m.Grow(int(b.count))
		var key [4]byte
		var data [16]byte
		b.each(func(host, public netip.Addr, ports policy.Ports) {
			value := appendAddr(data[:0], public)
			value = append(value, byte(ports.First>>8), byte(ports.First), 0, 0)
			value = appendAddr(value, public)
			value = append(value, byte(ports.Last>>8), byte(ports.Last), 0, 0)
			m.Add(appendAddr(key[:0], host), nil, value, ruleset.NoOrigin)
		})
	})
	return do
}

// publicOf makes the map from a host to its public address: neighbours that
// share one are a range.
func (c *compiler) publicOf(t *translator, b *blocks, f int) string {
	typ := []ruleset.Type{sources()[f].Type()}
	m := ruleset.NewSet(t.object+"_addresses"+familySuffix(f), typ, typ)
	m.Interval = true
	return c.mapOf(m, t.origin, func() {
		var run span
		var at netip.Addr
		add := func() {
			if at.IsValid() {
				m.Add(appendAddr(nil, run.lo), appendAddr(nil, run.hi), appendAddr(nil, at), ruleset.NoOrigin)
			}
		}
		b.each(func(host, public netip.Addr, _ policy.Ports) {
			if public == at && run.hi.Next() == host {
				run.hi = host
				return
			}
			add()
			run, at = span{host, host}, public
		})
		add()
	})
}

// blockChains makes the map from a host to the chain of its block, as many
// hosts have it, each on a public address of its own. For IPv6 nft(8) 1.0.6
// knows no map to addresses with ranges of ports.
func (c *compiler) blockChains(t *translator, b *blocks, do ruleset.Action) string {
	do.Map = c.publicOf(t, b, 1)
	m := ruleset.NewSet(t.object+"_blocks_v6", []ruleset.Type{ruleset.IPv6Addr}, []ruleset.Type{ruleset.Verdict})
	return c.mapOf(m, t.origin, func() {
		m.Grow(int(b.count))
		chains := map[uint16]string{}
		b.each(func(host, _ netip.Addr, ports policy.Ports) {
			name := chains[ports.First]
			if name == "" {
				name = fit(fmt.Sprintf("%s_from_%d", t.object, ports.First))
				chains[ports.First] = name
				ch, do := c.chain(name, t.origin), do
				do.NAT.PortMin, do.NAT.PortMax = ports.First, ports.Last
				for _, proto := range portProtocols() {
					c.entryRules(ch, t.origin, and([]alternative{{family: only(1)}}, isProtocol(proto)), "", do)
				}
			}
			m.AddVerdict(appendAddr(nil, host), nil, goTo(name), ruleset.NoOrigin)
		})
	})
}
