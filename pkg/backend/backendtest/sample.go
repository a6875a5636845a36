package backendtest

import (
	"encoding/binary"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// sample is a ruleset in the making. Each origin is on a line of its own.
type sample struct {
	*ruleset.Ruleset
	line int
}

func newSample() *sample { return &sample{&ruleset.Ruleset{}, 0} }

func (s *sample) origin(entry string) ruleset.Origin {
	s.line++
	return ruleset.Origin{Entry: entry, Place: ruleset.Place{File: "policy.yaml", Line: s.line, Column: 5}}
}

// entry adds an entry that elements can name.
func (s *sample) entry(name string) uint32 {
	s.Origins = append(s.Origins, s.origin(name))
	return uint32(len(s.Origins) - 1)
}

func (s *sample) counter(name string) {
	s.Counters = append(s.Counters, &ruleset.Counter{Name: name, Origin: s.origin("counter " + name)})
}

func (s *sample) chain(name string, hook *ruleset.Hook) *ruleset.Chain {
	c := &ruleset.Chain{Name: name, Hook: hook, Origin: s.origin("chain " + name)}
	s.Chains = append(s.Chains, c)
	return c
}

func (s *sample) rule(c *ruleset.Chain, entry string, a ruleset.Action, matches ...ruleset.Match) *ruleset.Rule {
	r := &ruleset.Rule{
		ID: fmt.Sprintf("%s/%s/%d", c.Name, entry, len(c.Rules)), Origin: s.origin(entry), Matches: matches, Action: a,
	}
	c.Rules = append(c.Rules, r)
	return r
}

func (s *sample) set(name string, key, data []ruleset.Type) *ruleset.Set {
	set := ruleset.NewSet(name, key, data)
	s.Sets = append(s.Sets, set)
	return set
}

func (s *sample) interval(name string, key, data []ruleset.Type) *ruleset.Set {
	set := s.set(name, key, data)
	set.Interval = true
	return set
}

func types(t ...ruleset.Type) []ruleset.Type { return t }

func fields(f ...ruleset.Field) []ruleset.Field { return f }

func equal(f ruleset.Field, v ...byte) ruleset.Match {
	return ruleset.Match{Fields: fields(f), Value: v}
}

func prefix(f ruleset.Field, op ruleset.Op, bits int, v ...byte) ruleset.Match {
	return ruleset.Match{Fields: fields(f), Op: op, Bits: bits, Value: v}
}

func in(set string, f ...ruleset.Field) ruleset.Match {
	return ruleset.Match{Fields: f, Op: ruleset.In, Set: set}
}

func anyOf(f ruleset.Field, bits byte) ruleset.Match {
	return ruleset.Match{Fields: fields(f), Op: ruleset.AnyOf, Value: []byte{0, 0, 0, bits}}
}

func ipv4() ruleset.Match { return equal(ruleset.NFProtoField, byte(ruleset.IPv4)) }
func ipv6() ruleset.Match { return equal(ruleset.NFProtoField, byte(ruleset.IPv6)) }
func tcp() ruleset.Match  { return equal(ruleset.L4Proto, 6) }

func port(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

func ip[N int | uint32](n N) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// join puts values together as a concatenation, padded.
func join(values ...[]byte) []byte {
	var out []byte
	for _, v := range values {
		out = append(out, v...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// name is an interface's name, padded with zeros.
func name(s string) []byte { return append([]byte(s), make([]byte, 16-len(s))...) }

// nameEnd is the last interface name that begins so.
func nameEnd(s string) []byte {
	v := name(s)
	for i := len(s); i < len(v); i++ {
		v[i] = 0xff
	}
	return v
}

func addr6(first, last byte) []byte {
	v := make([]byte, 16)
	v[0], v[1], v[2], v[15] = 0x20, 0x01, first, last
	return v
}

func accept() ruleset.Action            { return ruleset.Action{Kind: ruleset.Accept} }
func drop() ruleset.Action              { return ruleset.Action{Kind: ruleset.Drop} }
func jump(chain string) ruleset.Action  { return ruleset.Action{Kind: ruleset.Jump, Chain: chain} }
func goTo(chain string) ruleset.Action  { return ruleset.Action{Kind: ruleset.Goto, Chain: chain} }
func reject(with string) ruleset.Action { return ruleset.Action{Kind: ruleset.Reject, With: with} }
func hook(p ruleset.HookPoint) *ruleset.Hook {
	return &ruleset.Hook{Type: ruleset.TypeFilter, Point: p}
}

func natHook(p ruleset.HookPoint, priority int) *ruleset.Hook {
	return &ruleset.Hook{Type: ruleset.TypeNAT, Point: p, Priority: priority}
}

func dnat(f ruleset.Family, m string, key ...ruleset.Field) ruleset.Action {
	return ruleset.Action{Kind: ruleset.DNAT, Family: f, Map: m, Fields: key}
}

func vmap(m string, key ...ruleset.Field) ruleset.Action {
	return ruleset.Action{Kind: ruleset.VerdictMap, Map: m, Fields: key}
}

// gateway is a small ruleset with one of each kind of object. Its chain
// "output" counts what the host sends in the counter "sent".
func gateway() *sample {
	s := newSample()
	s.counter("sent")
	s.counter("forwarded")
	web, mail, lan := s.entry("port_forward web"), s.entry("port_forward mail"), s.entry("zone lan")

	ports := s.set("ports", types(ruleset.InetService), types(ruleset.IPv4Addr, ruleset.InetService))
	ports.Counted = true
	for i := range 20 {
		ports.Add(port(1000+i), nil, join(ip(0x0a000001), port(80+i)), web+uint32(i%2))
	}
	ranges := s.interval("ranges", types(ruleset.InetService), types(ruleset.IPv4Addr))
	ranges.Add(port(90), port(99), ip(0x0a000001), web)
	ranges.Add(port(100), port(109), ip(0x0a000002), mail)
	ranges.Add(port(200), port(200), ip(0x0a000003), mail)
	ranges.Add(port(0xff00), port(0xffff), ip(0x0a000002), mail)
	zones := s.set("zones", types(ruleset.IfName), types(ruleset.Verdict))
	zones.AddVerdict(name("eth0"), nil, drop(), ruleset.NoOrigin)
	zones.AddVerdict(name("eth1"), nil, goTo("from_lan"), lan)
	zones.Origin = s.origin("zones")

	out := s.chain("output", hook(ruleset.Output))
	s.rule(out, "counter sent", ruleset.Action{}).Counter = "sent"
	s.rule(out, "default", accept())
	forward := s.chain("forward", hook(ruleset.Forward))
	s.rule(forward, "state", accept(), anyOf(ruleset.CtStateField, ruleset.CtEstablished|ruleset.CtRelated))
	s.rule(forward, "zones", vmap("zones", ruleset.IIfName)).Counter = "forwarded"
	s.rule(forward, "default", drop())
	fromLAN := s.chain("from_lan", nil)
	s.rule(fromLAN, "forward lan", accept(), ipv4(), prefix(ruleset.IPSaddr, ruleset.Equal, 24, 10, 0, 0, 0))
	pre := s.chain("dstnat_all", natHook(ruleset.Prerouting, -100))
	s.rule(pre, "port_forward", dnat(ruleset.IPv4, "ports", ruleset.DstPort), ipv4(), tcp())
	s.rule(pre, "port_forward", dnat(ruleset.IPv4, "ranges", ruleset.DstPort), ipv4(), tcp())
	return s
}

// find gives an object of the ruleset.
func (s *sample) findChain(name string) *ruleset.Chain {
	for _, c := range s.Chains {
		if c.Name == name {
			return c
		}
	}
	panic("backendtest: no chain " + name)
}

// replace puts a set in the place of the one that has its name.
func (s *sample) replace(set *ruleset.Set) {
	for i := range s.Sets {
		if s.Sets[i].Name == set.Name {
			s.Sets[i] = set
			return
		}
	}
	panic("backendtest: no set " + set.Name)
}
