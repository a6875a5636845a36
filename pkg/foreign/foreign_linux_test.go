package foreign

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// text is the rules as lines, so that a difference can be read.
func (r *Rules) text() string {
	var out strings.Builder
	for _, t := range r.Tables {
		for _, c := range t.Chains {
			out.WriteString(t.Family + " " + t.Name + " " + c.Name)
			if c.Hook != "" {
				out.WriteString(" " + string(c.Hook))
			}
			if c.Drops {
				out.WriteString(" drop")
			}
			out.WriteString("\n")
			for i := range c.Rules {
				out.WriteString("    " + c.Rules[i].String() + "\n")
			}
		}
	}
	return out.String()
}

func readOf(t *testing.T, h *lab.Host) *Rules {
	t.Helper()
	var r *Rules
	if err := h.Do(func() (err error) { r, err = Read(); return err }); err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		t.Fatal(r.Problems)
	}
	return r
}

const xtRules = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [7:420]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -s 10.1.0.0/17 ! -d 10.2.3.4/32 -i eth+ -p tcp -m tcp --dport 80:90 -g DOCKER
-A FORWARD -p udp -m multiport --dports 53,100:200 -m comment --comment "two words" -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -p icmp -m icmp --icmp-type 3 -j DROP
-A FORWARD -m limit --limit 3/sec -j LOG --log-prefix "x "
-A FORWARD -m mark --mark 0x7 -m conntrack ! --ctstate DNAT -j DROP
-A DOCKER-USER -j RETURN
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 203.0.113.7
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
-A PREROUTING -p udp -m udp --sport 53 -j CT --notrack
COMMIT
`

const xtRead = `ip filter INPUT input
ip filter FORWARD forward drop
    counter packets 0 jump DOCKER-USER
    oifname "docker0" ct state established,related counter packets 0 accept
    oifname "docker0" counter packets 0 jump DOCKER
    iifname "docker0" oifname != "docker0" counter packets 0 accept
    iifname "eth*" saddr 10.1.0.0/17 daddr != 10.2.3.4 l4proto tcp dport 80-90 counter packets 0 goto DOCKER
    l4proto udp dport { 53, 100-200 } counter packets 0 reject comment "two words"
    l4proto icmp icmp type 3 counter packets 0 drop
    match limit counter packets 0
    mark 0x7 ct status != dnat counter packets 0 drop
ip filter OUTPUT output
ip filter DOCKER
    iifname != "docker0" oifname "docker0" daddr 172.17.0.2 l4proto tcp dport 80 counter packets 0 accept
ip filter DOCKER-USER
    counter packets 0 return
ip nat PREROUTING prerouting
    fib daddr type local counter packets 0 jump DOCKER
ip nat INPUT input
ip nat OUTPUT output
ip nat POSTROUTING postrouting
    oifname != "docker0" saddr 172.17.0.0/16 counter packets 0 snat
    saddr 10.0.0.0/8 counter packets 0 snat to 203.0.113.7
ip nat DOCKER
    iifname != "docker0" l4proto tcp dport 8080 counter packets 0 dnat to 172.17.0.2:80
ip raw PREROUTING prerouting
    iifname != "docker0" daddr 172.17.0.2 counter packets 0 drop
    l4proto udp sport 53 counter packets 0 notrack
ip raw OUTPUT output
`

// The same rules read alike, whichever of its two backends iptables has put them
// into.
func TestBothBackendsOfIptables(t *testing.T) {
	for _, kind := range []Kind{XTLegacy, XTNFT} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.Binary(string(kind)+"-restore"))
			h := lab.New(t).Host("h")
			h.Feed(t, xtRules, string(kind)+"-restore", "-c")
			r := readOf(t, h)
			for _, table := range r.Tables {
				if table.Kind != kind {
					t.Errorf("%s %s is %s", table.Family, table.Name, table.Kind)
				}
			}
			// Tables are told in no order that means anything.
			got := &Rules{}
			for _, name := range []string{"filter", "nat", "raw"} {
				for _, table := range r.Tables {
					if table.Name == name {
						table.Chains = ordered(table.Chains)
						got.Add(table)
					}
				}
			}
			want := xtRead
			if kind == XTNFT {
				// What stands behind the protocol's match there.
				want = strings.ReplaceAll(want, "match limit", "limit")
			}
			if d := cmp.Diff(spaces(want), spaces(got.text())); d != "" {
				t.Error(d)
			}
			forward := got.Base(false, Forward)[0]
			if kind == XTLegacy && (!forward.Counted || forward.Packets != 7) {
				t.Errorf("the policy's packets: %v %d", forward.Counted, forward.Packets)
			}
		})
	}
}

// ordered puts hooks first, as the old iptables has them.
func ordered(chains []*Chain) (out []*Chain) {
	for _, h := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
		for _, c := range chains {
			if c.Hook == h {
				out = append(out, c)
			}
		}
	}
	for _, name := range []string{"DOCKER", "DOCKER-USER"} {
		for _, c := range chains {
			if c.Name == name {
				out = append(out, c)
			}
		}
	}
	return out
}

// spaces cuts a text into lines whose words stand in the order of letters: the
// two backends test the same in another order.
func spaces(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		head, body, _ := strings.Cut(strings.TrimSpace(line), " counter ")
		words := strings.Fields(strings.TrimPrefix(head, "counter "))
		slices.Sort(words)
		out = append(out, strings.Join(words, " ")+" | "+body)
	}
	return out
}

const nftRules = `
table inet fw {
	set lans { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0-192.168.3.255 } }
	set links { type ifname; elements = { "eth1", "eth2" } }
	set pairs { type ifname . inet_service; elements = { "eth1" . 80, "eth2" . 443 } }
	map ways { type ifname : verdict; elements = { "eth1" : jump inside, "eth0" : goto outside } }
	chain forward {
		type filter hook forward priority filter + 10; policy drop;
		ct state { established, related } accept
		ct state invalid,new counter packets 3 bytes 200
		ct status dnat accept
		iifname vmap @ways
		iifname @links ip saddr @lans accept comment "lans"
		ip6 daddr fd00::/8 reject
		iifname . tcp dport @pairs accept
		meta l4proto { tcp, udp } th dport 53 accept
		tcp dport > 1024 drop
		limit rate 5/second accept
		meta mark & 0xff == 0x1 drop
	}
	chain inside { return; }
	chain outside { fib daddr type local accept; icmp type echo-request drop; }
	chain out { type nat hook postrouting priority srcnat; oifname "wan*" masquerade; ip saddr 10.0.0.0/8 snat ip to 192.0.2.1; }
	chain in { type nat hook prerouting priority dstnat - 5; tcp dport 80 dnat ip to 10.0.0.9:8080; tcp dport 81 redirect to :82; }
	chain raw { type filter hook prerouting priority raw; udp dport 53 notrack; }
}
`

const nftRead = `inet fw forward forward drop
    ct state established,related accept
    ct state invalid,new counter packets 3
    ct status dnat accept
    iifname "eth0" goto outside
    iifname "eth1" jump inside
    iifname { "eth1", "eth2" } family ipv4 saddr { 10.0.0.0/8, 192.168.0.0/22 } accept comment "lans"
    family ipv6 daddr fd00::/8 reject
    l4proto tcp iifname "eth1" dport 80 accept
    l4proto tcp iifname "eth2" dport 443 accept
    l4proto { tcp, udp } dport 53 accept
    l4proto tcp dport != 0-1024 drop
    limit accept
    mark & 0xff 0x1 drop
inet fw inside
    return
inet fw outside
    fib daddr type local accept
    family ipv4 l4proto icmp icmp type 8 drop
inet fw out postrouting
    oifname "wan*" snat
    family ipv4 saddr 10.0.0.0/8 snat to 192.0.2.1
inet fw in prerouting
    l4proto tcp dport 80 dnat to 10.0.0.9:8080
    l4proto tcp dport 81 dnat
inet fw raw prerouting
    l4proto udp dport 53 notrack
`

func TestNFT(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	h := lab.New(t).Host("h")
	h.Feed(t, nftRules, "nft", "-f", "-")
	r := readOf(t, h)
	if d := cmp.Diff(nftRead, r.text()); d != "" {
		t.Error(d)
	}
	var chains *Rules
	if err := h.Do(func() (err error) { chains, err = Chains(); return err }); err != nil {
		t.Fatal(err)
	}
	for _, rules := range []*Rules{r, chains} {
		if got := rules.Base(true, Prerouting); len(got) != 2 || got[0].Name != "raw" || got[1].Priority != -105 {
			t.Errorf("%+v", got)
		}
	}
}

// Nothing is made by looking.
func TestReadChangesNothing(t *testing.T) {
	h := lab.New(t).Host("h")
	if r := readOf(t, h); len(r.Tables) != 0 {
		t.Error(r.text())
	}
	if names := h.Run(t, "sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null; true"); names != "" {
		t.Errorf("ip_tables has now: %s", names)
	}
}

func packet(change func(*Packet)) *Packet {
	p := &Packet{In: "eth1", Out: "eth0", Source: netip.MustParseAddr("192.168.1.10"), Destination: netip.MustParseAddr("198.51.100.9"), Protocol: 6, State: StateNew}
	if change != nil {
		change(p)
	}
	return p
}

func TestWalk(t *testing.T) {
	port := func(field Field, n uint16) Test { return Test{Field: field, Ranges: ports(n, n)} }
	in := func(name string) Test { return Test{Field: In, Names: []string{name}} }
	opaque := Test{Text: "?"}
	for _, c := range []struct {
		name   string
		rules  []Rule
		drops  bool
		packet *Packet
		want   string // the outcomes that are possible
	}{
		{"a policy", nil, true, packet(nil), "drop"},
		{"accepted before the policy", []Rule{{Tests: []Test{in("eth1")}, Verdict: Accept}}, true, packet(nil), "accept"},
		{"another interface", []Rule{{Tests: []Test{in("eth2")}, Verdict: Accept}}, true, packet(nil), "drop"},
		{"all that begin so", []Rule{{Tests: []Test{in("eth*")}, Verdict: Accept}}, true, packet(nil), "accept"},
		{"not that one", []Rule{{Tests: []Test{{Field: In, Not: true, Names: []string{"eth1"}}}, Verdict: Drop}}, false, packet(nil), "accept"},
		{"an unknown condition", []Rule{{Tests: []Test{opaque}, Verdict: Accept}}, true, packet(nil), "accept drop"},
		{"an unknown port", []Rule{{Tests: []Test{port(DestinationPort, 80)}, Verdict: Accept}}, true, packet(nil), "accept drop"},
		{"a known port", []Rule{{Tests: []Test{port(DestinationPort, 80)}, Verdict: Accept}}, true, packet(func(p *Packet) { p.DestinationPort = 443 }), "drop"},
		{"no port at all", []Rule{{Tests: []Test{port(DestinationPort, 80)}, Verdict: Accept}}, true, packet(func(p *Packet) { p.Protocol = 1 }), "drop"},
		{"a jump and back", []Rule{{Verdict: Jump, To: "back"}, {Verdict: Accept}}, true, packet(nil), "accept"},
		{"a goto does not come back", []Rule{{Verdict: Goto, To: "back"}, {Verdict: Accept}}, true, packet(nil), "drop"},
		{"perhaps a goto", []Rule{{Tests: []Test{opaque}, Verdict: Goto, To: "back"}, {Verdict: Accept}}, true, packet(nil), "accept drop"},
		{"a jump that ends", []Rule{{Verdict: Jump, To: "drops"}, {Verdict: Accept}}, false, packet(nil), "drop"},
		{"a chain that is not there", []Rule{{Verdict: Jump, To: "gone"}}, false, packet(nil), "accept"},
		{"a loop", []Rule{{Verdict: Jump, To: "loop"}}, true, packet(nil), "drop unknown"},
		{"an established one", []Rule{{Tests: []Test{{Field: State, Bits: StateEstablished | StateRelated}}, Verdict: Accept}}, true,
			packet(func(p *Packet) { p.State = StateEstablished }), "accept"},
		{"a status that is not known", []Rule{{Tests: []Test{{Field: Status, Bits: 4}}, Verdict: Accept}}, true, packet(nil), "accept drop"},
		{"untracked, then translated", []Rule{{Verdict: Untrack}, {Verdict: SNAT}}, false, packet(nil), "snat notrack"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := &Chain{Name: "c", Hook: Forward, Drops: c.drops, Rules: c.rules}
			r := &Rules{}
			r.Add(&Table{Family: "ip", Name: "t", Chains: []*Chain{base, {Name: "back", Rules: []Rule{{Verdict: Return}, {Verdict: Drop}}},
				{Name: "drops", Rules: []Rule{{Verdict: Drop}}}, {Name: "loop", Rules: []Rule{{Verdict: Jump, To: "loop"}}}}})
			o := base.Walk(c.packet)
			var got []string
			for _, x := range []struct {
				d    *Decision
				name string
			}{{o.Accept, "accept"}, {o.Drop, "drop"}, {o.Reject, "reject"}, {o.DNAT, "dnat"}, {o.SNAT, "snat"}, {o.Untrack, "notrack"}} {
				if x.d != nil {
					got = append(got, x.name)
				}
			}
			if o.Unknown {
				got = append(got, "unknown")
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
			if stopped := o.Stopped() != nil; stopped != (c.want == "drop") {
				t.Errorf("stopped: %v", stopped)
			}
		})
	}
}

func TestChainsOnLinks(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	t.Parallel()
	h := lab.New(t).Host("gw")
	h.Stub("eth0")
	h.Stub("eth1")
	h.Stub("eth10")
	h.Feed(t, `
table netdev guard {
	chain in {
		type filter hook ingress device "eth1" priority 0;
		ip saddr 192.168.1.0/24 tcp dport 80 drop
		ether type 0x8863 drop
	}
	chain out { type filter hook egress devices = { eth0, eth1 } priority 0; policy drop; }
}
table inet guard {
	chain in { type filter hook ingress device "eth0" priority 0; policy drop; }
}
`, "nft", "-f", "-")
	r := readOf(t, h)
	p := &Packet{In: "eth1", Source: netip.MustParseAddr("192.168.1.10"), Destination: netip.MustParseAddr("198.51.100.9"), Protocol: 6, DestinationPort: 80}
	p6 := &Packet{In: "eth1", IPv6: true, Source: netip.MustParseAddr("fd00::1"), Destination: netip.MustParseAddr("fd00::2"), Protocol: 6, DestinationPort: 80}
	for _, c := range []struct {
		chain   string
		hook    Hook
		packet  *Packet
		on, off string
		stops   bool
	}{
		{"netdev guard in", Ingress, p, "eth1", "eth0", true},
		{"netdev guard in", Ingress, p6, "eth1", "eth10", false},
		{"netdev guard out", Egress, p, "eth0", "eth10", true},
		{"inet guard in", Ingress, p, "eth0", "eth1", true},
	} {
		i := slices.IndexFunc(r.Base(c.packet.IPv6, c.hook), func(b *Chain) bool { return b.String() == c.chain })
		if i < 0 {
			t.Fatalf("%s is not at %s:\n%s", c.chain, c.hook, r.text())
		}
		b := r.Base(c.packet.IPv6, c.hook)[i]
		if !b.On(c.on) || b.On(c.off) {
			t.Errorf("%s is on %v, want %s, not %s", b, b.Devices, c.on, c.off)
		}
		if got := b.Walk(c.packet).Stopped() != nil; got != c.stops {
			t.Errorf("%s stops IPv6 %v: %v, want %v\n%s", b, c.packet.IPv6, got, c.stops, r.text())
		}
	}
}
