package simulate_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

const two = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
  dsl: {interfaces: [eth3], symmetric: {mark: 0x20000000/0xf0000000, table: 77}}
  lte: {interfaces: [eth4]}
masquerade:
  - {name: house, from: lan, to: [wan, dsl, lte], port_selection: random}
snat:
  - {name: keeps, from: dmz, to: wan, addresses: 203.0.113.32-203.0.113.35, distribution: kernel}
port_forward:
  - {name: web, from: [wan, dsl, lte], protocol: tcp, ports: 80, to: 192.168.1.10}
  - {name: many, from: wan, protocol: tcp, ports: 90, to: [192.168.1.11, "192.168.1.12:91"]}
forward:
  rules:
    - {name: mail, from: dmz, to: lan, protocol: tcp, ports: 25, action: accept, max_connections: {total: 3}}
input:
  default: accept
  rules:
    - {name: told, from: dmz, protocol: tcp, action: reject}
`

func uplinks(t *testing.T) *simulate.Gateway {
	f, r := host(map[string][]string{"eth3": {"192.0.2.2/24", "2001:db8:3::2/64"}, "eth4": {"198.18.0.2/24"}}, "eth3", "eth4")
	return on(t, f, r, two)
}

func send(t *testing.T, g *simulate.Gateway, p simulate.Packet) *simulate.Outcome {
	t.Helper()
	out, err := g.Send(p)
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	return out
}

// TestAnswers has the answer go back where the packet came from, and says where it
// does not.
func TestAnswers(t *testing.T) {
	t.Parallel()
	g := uplinks(t)
	for _, c := range []struct {
		packet         simulate.Packet
		in, out, notes string
	}{
		{tcp("wan", "8.8.8.8", "203.0.113.1:80"), "eth1", "eth0", ""},
		{tcp("dsl", "8.8.8.8", "192.0.2.2:80"), "eth1", "eth3", ""},
		{tcp("lte", "8.8.8.8", "198.18.0.2:80"), "eth1", "eth0", "the answer leaves by eth0, where the route to 8.8.8.8 leads, and not by eth4, where the packet came from; `symmetric: true` in zone lte has it leave there"},
		{tcp("lan", "192.168.1.10", "8.8.8.8:443"), "eth0", "eth1", ""},
		{tcp("lan", "192.168.1.10", "192.168.1.1:22"), "", "eth1", ""},
		{tcp("gateway", "", "8.8.8.8:22"), "eth0", "", ""},
		{tcp("lan", "fd00:1::5", "[2001:db8:f::1]:443"), "eth0", "eth1", ""},
	} {
		o := send(t, g, c.packet)
		a := o.Answer
		if a == nil {
			t.Errorf("%+v: no answer", c.packet)
			continue
		}
		if !a.Verdict.Passes() || a.In != c.in || a.Out != c.out || strings.Join(a.Notes, "; ") != c.notes {
			t.Errorf("%+v: %+v", c.packet, a)
		}
		back := simulate.Ends{Source: o.Arrived.Destination, Destination: o.Arrived.Source, SourcePort: o.Arrived.DestinationPort, DestinationPort: o.Arrived.SourcePort}
		if a.Received != back || a.Sent != o.Flow.Reply {
			t.Errorf("%+v: the answer %+v comes back as %+v", c.packet, a.Sent, a.Received)
		}
		if last := a.Steps[len(a.Steps)-1].After; last != back {
			t.Errorf("%+v: the answer's last step leaves %+v", c.packet, last)
		}
	}
	for _, p := range []simulate.Packet{tcp("dmz", "192.168.2.5", "192.168.1.1:22"), tcp("gateway", "", "127.0.0.1:22"), {From: "lan", Source: netip.MustParseAddr("192.168.1.5"), Destination: netip.MustParseAddr("224.0.0.251"), DestinationPort: 5353, Protocol: 17}} {
		if o := send(t, g, p); o.Answer != nil {
			t.Errorf("%+v: an answer %+v", p, o.Answer)
		}
	}
	if o := send(t, g, tcp("dsl", "8.8.8.8", "192.0.2.2:80")); o.Flow.Mark != 0x20000000 || o.Answer.Mark != 0x20000000 {
		t.Errorf("the flow's mark is %#x, the answer's %#x", o.Flow.Mark, o.Answer.Mark)
	}
}

// TestChoices has everything told that the kernel chooses.
func TestChoices(t *testing.T) {
	t.Parallel()
	g := uplinks(t)
	for _, c := range []struct {
		packet simulate.Packet
		want   string
	}{
		{tcp("lan", "192.168.1.10", "8.8.8.8:443"), "port 1024-65535 at random"},
		{tcp("dmz", "192.168.2.10", "8.8.8.8:443"), "address 203.0.113.32-203.0.113.35 by source and destination; port 1024-65535 40000 where it is free kept"},
		{tcp("wan", "8.8.8.8", "203.0.113.1:90"), "target 192.168.1.11,192.168.1.12:91 each in turn"},
		{tcp("wan", "8.8.8.8", "203.0.113.1:80"), ""},
		{simulate.Packet{From: "dmz", Source: netip.MustParseAddr("192.168.2.10"), Destination: netip.MustParseAddr("8.8.8.8"), Protocol: 1, ICMPType: 8}, "address 203.0.113.32-203.0.113.35 by source and destination"},
		{func() simulate.Packet {
			p := tcp("dmz", "192.168.2.10", "8.8.8.8:443")
			p.SourcePort = 500
			return p
		}(), "address 203.0.113.32-203.0.113.35 by source and destination; port 1-511 500 where it is free kept"},
	} {
		var list []string
		for _, x := range send(t, g, c.packet).Choices {
			text := string(x.What) + " " + strings.Join(x.Of, ",") + " " + x.How
			if x.Kept {
				text += " kept"
			}
			list = append(list, text)
		}
		if got := strings.Join(list, "; "); got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.packet, got, c.want)
		}
	}
}

// TestStates walks what is not the first packet of a flow.
func TestStates(t *testing.T) {
	t.Parallel()
	g := uplinks(t)
	ask := func(state uint32, p simulate.Packet) *simulate.Outcome {
		t.Helper()
		p.State = state
		return send(t, g, p)
	}
	lan := tcp("lan", "192.168.1.10", "8.8.8.8:443")
	reset := lan
	reset.TCPFlags = 1 << 2
	for p, want := range map[*simulate.Packet]uint32{&lan: ruleset.CtNew, &reset: ruleset.CtInvalid,
		{From: "lan", Source: lan.Source, Destination: lan.Destination, Protocol: 1}: ruleset.CtInvalid} { // an echo reply
		if o := send(t, g, *p); o.Packet.State != want {
			t.Errorf("%+v is %s to conntrack", *p, simulate.StateName(o.Packet.State))
		}
	}
	if o := ask(ruleset.CtEstablished, lan); o.Verdict != simulate.Forwarded || o.Left.Source.String() != "203.0.113.1" || o.Packet.TCPFlags != 1<<4 || len(o.Notes) > 0 {
		t.Errorf("established: %+v", o)
	}
	if o := ask(ruleset.CtEstablished, tcp("dmz", "192.168.2.9", "192.168.1.9:81")); o.Verdict != simulate.Forwarded || o.Left != o.Arrived || len(o.Notes) != 1 {
		t.Errorf("established, and not allowed any more: %+v", o)
	}
	if o := ask(ruleset.CtInvalid, lan); o.Verdict != simulate.Dropped || o.Flow != nil || !strings.Contains(o.Hint, "no rule can let it pass") {
		t.Errorf("invalid: %+v", o)
	}
	if o := ask(ruleset.CtUntracked, lan); o.Verdict != simulate.Dropped || o.EndedAt != ruleset.Postrouting {
		t.Errorf("untracked: %+v", o)
	}
	if o := ask(ruleset.CtRelated, tcp("dmz", "192.168.2.9", "192.168.1.9:81")); o.Verdict != simulate.Forwarded || o.Flow != nil {
		t.Errorf("related: %+v", o)
	}
}

// TestInterfaces has a packet come in by an interface that its zone has, whether
// the host has it or not.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	f, r := host(map[string][]string{"wg7": {"10.7.0.1/24"}, "wg8": {"10.8.0.1/24"}})
	g := on(t, f, r, `version: 1
zones:
  vpn: {interfaces: ["wg*"], networks: [10.7.0.0/16, 10.8.0.0/16, 10.66.0.0/16]}
  guests: {interfaces: ["br-*"], networks: 10.9.0.0/24}
  far: {networks: 10.10.0.0/16}
`)
	for _, c := range []struct{ from, source, want, note string }{
		{"vpn", "10.8.0.5", "wg8", ""},
		{"vpn", "10.66.0.5", "wg7", ""},
		{"guests", "10.9.0.5", "br-0", "the host has no interface br-0 now: it is taken to be there"},
		{"far", "10.10.0.5", "eth0", ""},
		{"", "10.7.0.5", "wg7", ""},
	} {
		o := send(t, g, tcp(c.from, c.source, "10.8.0.9:80"))
		if o.Packet.Interface != c.want || strings.Join(o.Notes, "; ") != c.note {
			t.Errorf("%s from %s comes by %s: %q", c.source, c.from, o.Packet.Interface, o.Notes)
		}
	}
}

// TestLimits has limits told where they are, and taken not to be reached.
func TestLimits(t *testing.T) {
	t.Parallel()
	o := send(t, uplinks(t), tcp("dmz", "192.168.2.9", "192.168.1.9:25"))
	i := slices.IndexFunc(o.Steps, func(s simulate.Step) bool { return s.Limited })
	if o.Verdict != simulate.Forwarded || i < 0 || o.Steps[i].Limit != "drops while more than 3 are open in all" || !o.Steps[i].Matters {
		t.Errorf("%+v", o)
	}
	var entries []string
	for _, e := range o.Entries() {
		entries = append(entries, e.Entry)
	}
	if !slices.Contains(entries, "forward mail") {
		t.Errorf("the entries are %q", entries)
	}
}

// TestCompare holds walks of a kernel against what was foreseen.
func TestCompare(t *testing.T) {
	t.Parallel()
	g := uplinks(t)
	o := send(t, g, tcp("dmz", "192.168.2.9", "192.168.1.9:25"))
	walk := func() (list []simulate.Seen) {
		for _, s := range o.Steps {
			if s.By == simulate.ByRule && !s.Limited {
				list = append(list, simulate.Seen{Table: "inet ipmasq", Chain: s.Chain.Name, Hook: s.Hook.String(), Ours: true, Rule: s.Rule, Comment: s.Origin.Entry, Verdict: "x"})
			}
		}
		return list
	}
	theirs := func(verdict string) simulate.Seen {
		return simulate.Seen{Table: "ip filter", Chain: "FORWARD", Hook: "forward", Verdict: verdict}
	}
	n := len(walk())
	other := o.Steps[0].Rule
	for name, c := range map[string]struct {
		change func([]simulate.Seen) []simulate.Seen
		at     int
		want   string // "": it is the same
	}{
		"the same": {func(w []simulate.Seen) []simulate.Seen { return w }, 0, ""},
		"others let it by": {func(w []simulate.Seen) []simulate.Seen {
			return slices.Insert(w, 2, theirs("accept"), theirs("continue"))
		}, 0, ""},
		"the end of chains": {func(w []simulate.Seen) []simulate.Seen {
			return slices.Insert(w, 1, simulate.Seen{Table: "inet ipmasq", Ours: true})
		}, 0, ""},
		"others drop it": {func(w []simulate.Seen) []simulate.Seen { return append(w[:3], theirs("drop")) }, 3, "the kernel dropped it in table ip filter chain FORWARD, which is not ipmasq's"},
		"others take it": {func(w []simulate.Seen) []simulate.Seen { return append(w[:3], theirs("queue")) }, 3, "the kernel gave it to a program"},
		"not seen again": {func(w []simulate.Seen) []simulate.Seen { return w[:2] }, 2, "nothing more was seen of it behind"},
		"nothing at all": {func(w []simulate.Seen) []simulate.Seen { return nil }, 0, "nothing more was seen of it behind the first chain"},
		"another rule": {func(w []simulate.Seen) []simulate.Seen {
			w[n-1].Rule, w[n-1].Comment = other, "antispoof"
			return w
		}, n - 1, "the kernel came to antispoof in chain"},
		"one more": {func(w []simulate.Seen) []simulate.Seen { return append(w, w[0]) }, n, "where nothing more was foreseen"},
		"another policy": {func(w []simulate.Seen) []simulate.Seen {
			w[1].Rule = nil
			return w
		}, 1, "a rule that is not this policy's"},
		"translated before": {func(w []simulate.Seen) []simulate.Seen {
			w = slices.Insert(w, n-1, theirs("accept"))
			w[n].Ends = &simulate.Ends{Source: o.Arrived.Source, Destination: netip.MustParseAddr("192.168.1.77")}
			return w
		}, n, "its destination was 192.168.1.77 by then, not 192.168.1.9: table ip filter had its turn before"},
	} {
		d := o.Compare(c.change(walk()))
		switch {
		case c.want == "" && d != nil:
			t.Errorf("%s: %+v", name, d)
		case c.want != "" && (d == nil || d.At != c.at || !strings.Contains(d.Text, c.want)):
			t.Errorf("%s: %+v, want %d: %s", name, d, c.at, c.want)
		}
	}
}
