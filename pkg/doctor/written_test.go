package doctor

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// table is the routes of a host that was written down.
type table struct {
	own map[string][]netip.Prefix
	to  map[netip.Prefix]string // networks to links
}

func (r *table) Kind(a netip.Addr) uint32 {
	for _, list := range r.own {
		if slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return link.KindLocal
		}
	}
	return link.KindUnicast
}

func (r *table) LocalOn(a netip.Addr, iface string) bool {
	return slices.ContainsFunc(r.own[iface], func(p netip.Prefix) bool { return p.Addr() == a })
}

func (r *table) Leaves(to netip.Addr) []string {
	best, via := -1, ""
	for p, name := range r.to {
		if p.Contains(to) && p.Bits() > best {
			best, via = p.Bits(), name
		}
	}
	if via == "" {
		return nil
	}
	return []string{via}
}

func (r *table) Way(to netip.Addr) []string { return r.Leaves(to) }

const written = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: out, from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}
`

// hostOf is the evidence of a gateway on which a policy is in force and nothing is
// wrong.
func hostOf(t *testing.T, text string) *Host {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &table{own: map[string][]netip.Prefix{}, to: map[netip.Prefix]string{netip.MustParsePrefix("0.0.0.0/0"): "eth0", netip.MustParsePrefix("::/0"): "eth0"}}
	var facts link.Facts
	for name, addresses := range map[string][]string{"eth0": {"203.0.113.2/24", "2001:db8:113::2/64"}, "eth1": {"192.168.1.1/24", "fd00:1::1/64"}} {
		l := link.Link{Name: name, Up: true, Carrier: true, Kind: "veth", MTU: 1500}
		for _, a := range addresses {
			prefix := netip.MustParsePrefix(a)
			l.Addresses = append(l.Addresses, link.Address{Prefix: prefix})
			r.own[name] = append(r.own[name], prefix)
			r.to[prefix.Masked()] = name
		}
		facts.Links = append(facts.Links, l)
	}
	slices.SortFunc(facts.Links, func(a, b link.Link) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	facts.Defaults = []link.DefaultRoute{
		{Family: link.IPv4, Interface: "eth0", Table: link.MainTable, Gateway: netip.MustParseAddr("203.0.113.1")},
		{Family: link.IPv6, Interface: "eth0", Table: link.MainTable, Gateway: netip.MustParseAddr("2001:db8:113::1")},
	}
	compiled, err := compile.Compile(p, engine.CompileFacts(facts))
	if err != nil {
		t.Fatal(err)
	}
	return &Host{
		Routes: &link.Routes{Facts: facts}, via: r, Policy: engine.CompileFacts(facts).Resolve(p), Compiled: compiled, Applied: &engine.Applied{},
		Status:  &engine.Status{InForce: true},
		Sysctls: map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
	}
}

// others puts chains of others in place. What is not a base chain has no hook.
func others(h *Host, kind foreign.Kind, family, name string, chains ...*foreign.Chain) *Host {
	if h.Rules.Foreign == nil {
		h.Rules.Foreign = &foreign.Rules{Own: 5}
	}
	h.Rules.Foreign.Add(&foreign.Table{Kind: kind, Family: family, Name: name, Number: uint64(len(h.Rules.Foreign.Tables)), Chains: chains})
	return h
}

func forward(drops bool, rules ...foreign.Rule) *foreign.Chain {
	return &foreign.Chain{Name: "FORWARD", Hook: foreign.Forward, Type: "filter", Drops: drops, Rules: rules}
}

func in(name string) foreign.Test  { return foreign.Test{Field: foreign.In, Names: []string{name}} }
func out(name string) foreign.Test { return foreign.Test{Field: foreign.Out, Names: []string{name}} }

var answers = foreign.Test{Field: foreign.State, Bits: foreign.StateEstablished | foreign.StateRelated}

func accept(tests ...foreign.Test) foreign.Rule {
	return foreign.Rule{Tests: tests, Verdict: foreign.Accept}
}

// found are the IDs of findings that are more than notes.
func found(list []Finding) (ids []string) {
	for _, f := range list {
		if f.Severity > Note {
			ids = append(ids, f.ID)
		}
	}
	return ids
}
