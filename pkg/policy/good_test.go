package policy

import (
	"fmt"
	"net/netip"

	"reflect"
	"strings"
	"testing"
)

// good loads a policy that must have no mistakes.
func good(t *testing.T, paths ...string) *Policy {
	t.Helper()
	p, err := Load(paths, LoadOptions{})
	if errs, ok := err.(Errors); ok {
		var b strings.Builder
		Print(&b, errs, p.Sources)
		t.Fatalf("%v:\n%s", paths, b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// equal compares what was decoded with a line for each value in it.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got := strings.TrimSpace(got); got != strings.TrimSpace(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, strings.TrimSpace(want))
	}
}

// list writes values with the places they were written at, without the file.
func list[T fmt.Stringer](values []T, place func(T) Place) string {
	var words []string
	for _, v := range values {
		at := place(v)
		words = append(words, fmt.Sprintf("%s@%d:%d", v, at.Line, at.Column))
	}
	return strings.Join(words, " ")
}

func addresses(as []Address) string {
	return list(as, func(a Address) Place { return a.Place })
}

func portList(ps []Ports) string {
	return list(ps, func(p Ports) Place { return p.Place })
}

func refs(refs []ZoneRef) string {
	var words []string
	for _, r := range refs {
		words = append(words, fmt.Sprintf("%s@%d:%d", r.Name, r.Line, r.Column))
	}
	return strings.Join(words, " ")
}

func protocolList(protocols []Protocol) string {
	var words []string
	for _, p := range protocols {
		words = append(words, fmt.Sprintf("%s@%d:%d", ProtocolName(p.Number), p.Line, p.Column))
	}
	return strings.Join(words, " ")
}

// TestEverything holds every key and every form of a value against the typed
// policy, with its place.
func TestEverything(t *testing.T) {
	const file = "testdata/everything.yaml"
	p := good(t, file)

	var zones strings.Builder
	for _, z := range p.Zones {
		fmt.Fprintf(&zones, "%s %d:%d interfaces %s networks %s\n", z.Name, z.Line, z.Column,
			list(z.Interfaces, func(i Interface) Place { return i.Place }), addresses(z.Networks))
	}
	equal(t, "zones", zones.String(), `
lan 5:3 interfaces eth1@6:18 br-*@6:24 networks 192.168.1.0/24@7:16 2001:db8:1::/64@7:32
dmz 8:3 interfaces eth2@8:21 networks @servers@8:37
wan 9:3 interfaces ppp0@9:21 networks `)
	if i := p.Zone("lan").Interfaces[1]; i.Name != "br-" || !i.Wildcard || !i.Matches("br-7") || i.Matches("eth1") {
		t.Errorf("wildcard: %+v", i)
	}

	var sets strings.Builder
	for _, s := range p.Sets {
		fmt.Fprintf(&sets, "%s %d:%d %s\n", s.Name, s.Line, s.Column, addresses(s.Addresses))
	}
	equal(t, "sets", sets.String(), `
servers 12:3 192.168.2.0-192.168.2.200@12:13 2001:db8:2::/64@12:57
blocked 13:3 192.0.2.0-192.0.2.130@2:1 192.0.2.131@7:1 192.0.2.200@6:1 2001:db8::5@5:1
none 14:3`)
	if got := p.Set("blocked").Addresses[0].File; got != "testdata/blocked.txt" {
		t.Errorf("file of a set's address: %s", got)
	}

	var masquerades strings.Builder
	for _, m := range p.Masquerade {
		fmt.Fprintf(&masquerades, "%s %d:%d %s from %s to %s sources %s not %s destinations %s not %s protocol %s ports %s outside %v selection %d noforward %t\n",
			m.Name, m.Line, m.Column, m.Family, refs(m.From), refs(m.To), addresses(m.Sources), addresses(m.ExceptSources),
			addresses(m.Destinations), addresses(m.ExceptDestinations), protocolList(m.Protocols), portList(m.Ports), m.OutsidePorts, m.PortSelection, m.NoForward)
	}
	equal(t, "masquerade", masquerades.String(), `
lan-dmz-wan 17:5 any from lan@17:12 dmz@17:17 to wan@18:9 sources  not  destinations  not 10.0.0.0/8@19:27 gateway@19:39 @blocked@19:48 protocol  ports  outside 32768-65535 selection 2 noforward false
udp 22:5 ipv4 from lan@22:37 to wan@22:46 sources 192.168.1.7@22:60 not 192.168.1.8@22:89 destinations 192.0.2.1-192.0.2.9@22:116 not  protocol udp@22:148 tcp@22:153 ports 53@22:165 1000-2000@22:169 outside <nil> selection 0 noforward true`)

	var forwards strings.Builder
	for _, f := range p.PortForward {
		fmt.Fprintf(&forwards, "%s %d:%d from %s address %s any %t protocol %s ports %s all %t not %s to %s masquerade %t sources %s not %s hairpin off %t zones %s outside %t\n",
			f.Name, f.Line, f.Column, refs(f.From), addresses(f.Address), f.AnyAddress, protocolList(f.Protocols), portList(f.Ports), f.AllPorts, portList(f.ExceptPorts),
			f.To, f.Masquerade, addresses(f.Sources), addresses(f.ExceptSources), f.Hairpin.Off, refs(f.Hairpin.Zones), f.Hairpin.OutsideSource)
	}
	equal(t, "port_forward", forwards.String(), `
tcp-udp-80-8000-8010 25:5 from wan@25:12 address  any false protocol tcp@25:28 udp@25:33 ports 80@25:47 8000-8010@25:51 all false not 8005@25:77 to 192.168.1.2 masquerade false sources  not  hairpin off false zones  outside false
tcp-8100-8110 26:5 from wan@26:12 address 2001:db8::1@26:92 any false protocol tcp@26:27 ports 8100-8110@26:39 all false not  to [2001:db8:1::2]:9100-9110 masquerade false sources  not  hairpin off false zones  outside false
tcp-all 27:5 from any@27:12 address  any true protocol tcp@27:41 ports  all true not  to 192.168.1.3:81 masquerade true sources  not  hairpin off true zones  outside false
six 28:5 from wan@28:23 address  any false protocol udplite@28:38 ports 8200@28:54 all false not  to 2001:db8:1::2 masquerade false sources @servers@28:128 not @blocked@28:156 hairpin off false zones lan@28:96 outside true
map-wan 29:5 from wan@29:12 address  any false protocol  ports  all false not  to invalid IP masquerade false sources  not  hairpin off false zones  outside false
vms-east 30:5 from wan@30:13 dmz@30:18 address  any false protocol  ports  all false not  to invalid IP masquerade false sources  not  hairpin off false zones  outside false`)

	var lines strings.Builder
	for _, f := range p.PortForward[4:] {
		for _, l := range f.Map.Lines {
			fmt.Fprintf(&lines, "%s %d %d-%d to %s %d-%d\n", p.PlaceOf(l), l.Protocol, l.First, l.Last, l.Addr, l.ToFirst, l.ToLast)
		}
	}
	equal(t, "maps", lines.String(), `
testdata/everything.yaml:29:23 6 8001-8001 to 10.0.0.1 80-80
testdata/everything.yaml:29:46 17 9000-9010 to 10.0.0.2 0-0
testdata/everything.yaml:29:71 132 7-7 to 2001:db8::2 8-8
testdata/VMs_east.txt:2:1 6 8001-8001 to 10.0.0.1 80-80
testdata/VMs_east.txt:4:2 17 9000-9001 to 10.0.0.2 9100-9101
testdata/VMs_east.txt:5:1 132 5-5 to 2001:db8::2 6-6
testdata/VMs_east.txt:6:1 136 5-5 to 2001:db8::2 0-0
testdata/VMs_east.txt:7:1 6 1-3 to 10.0.0.3 0-0`)

	var rules strings.Builder
	fmt.Fprintf(&rules, "default %s %d:%d\n", p.Forward.Default, p.Forward.Line, p.Forward.Column)
	for _, r := range p.Forward.Rules {
		fmt.Fprintf(&rules, "%s %d:%d from %s to %s sources %s protocol %s ports %s %s types %d action %s\n", r.Name, r.Line, r.Column,
			refs(r.From), refs(r.To), addresses(r.Sources), protocolList(r.Protocols), portList(r.SourcePorts), portList(r.Ports), len(r.ICMPTypes), r.Action)
	}
	equal(t, "forward", rules.String(), `
default reject 33:3
lan-lan 35:7 from lan@35:14 to lan@35:23 sources  protocol  ports   types 0 action accept
any-any 36:7 from  to  sources @blocked@36:17 protocol  ports   types 0 action drop
ping 37:7 from  to  sources  protocol icmp@37:33 icmpv6@37:33 ports   types 2 action accept
ports 38:7 from  to  sources  protocol sctp@38:31 ports 1-9@38:51 10@38:63 types 0 action reject`)
	if ts := p.Forward.Rules[2].ICMPTypes; ts[0].V4 != 8 || ts[0].V6 != 128 || ts[1].V4 != -1 || ts[1].V6 != 2 {
		t.Errorf("ICMP types: %+v", ts)
	}
	if g := p.Gateway; g.ForwardIPv4 == nil || !*g.ForwardIPv4 || g.ForwardIPv6 == nil || *g.ForwardIPv6 || g.Line != 41 {
		t.Errorf("gateway: %+v", g)
	}
	var names []string
	for _, s := range p.Sources {
		names = append(names, s.Name)
	}
	equal(t, "sources", strings.Join(names, " "), "testdata/everything.yaml testdata/blocked.txt testdata/VMs_east.txt")
}

func TestVersionAlone(t *testing.T) {
	p, err := Parse("policy.yaml", []byte("version: 1"))
	if err != nil {
		t.Fatal(err)
	}
	p.Sources = nil
	if !reflect.DeepEqual(p, &Policy{}) {
		t.Errorf("%+v", p)
	}
}

// TestForms are policies that are allowed for a reason which is easily lost.
func TestForms(t *testing.T) {
	const zones = "version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}\n"
	for _, c := range []struct{ why, text string }{
		{"a byte order mark", "\uFEFFversion: 1\n"},
		{"a document marker and a directive", "%YAML 1.2\n---\nversion: 1\n...\n"},
		{"Windows line ends", strings.ReplaceAll(zones, "\n", "\r\n")},
		{"a section of one entry without a list", zones + "masquerade: {from: lan, to: wan}\n"},
		{"an empty list of entries", zones + "masquerade: []\nport_forward: []\nforward: {rules: []}\n"},
		{"an alias", zones + "masquerade:\n  - {name: a, from: lan, to: wan, sources: &hosts [10.0.0.1, 10.0.0.2]}\n  - {name: b, from: lan, to: wan, sources: *hosts}\n"},
		{"one name in two sections", zones + "masquerade: {name: a, from: lan, to: wan}\nforward: {rules: {name: a, action: drop}}\n"},
		{"numbers and words that YAML has types for", "version: 1\nzones: {1: {interfaces: 5}, on: {interfaces: true}, 0x10: {interfaces: 1e3}}\n"},
		{"an IPv6 address that YAML would take for a mapping", zones + "sets: {a: \"2001:db8::\", b: [\"::/0\"], c: 2001:db8::1, d: [2001:db8::/32, ::1]}\n"},
		{"a host's address as a prefix of full length", zones + "sets: {a: [192.0.2.1/32, 2001:db8::1/128, 0.0.0.0/0]}\n"},
		{"a list with both families beside one of one", zones + "masquerade: {from: lan, to: wan, sources: [10.0.0.1, 2001:db8::1], destinations: 192.0.2.1}\n"},
		{"an exception of the other family", zones + "masquerade: {from: lan, to: wan, sources: 10.0.0.1, except_destinations: 2001:db8::1}\n"},
		{"an empty set says nothing of families", zones + "sets: {none: []}\nmasquerade: {from: lan, to: wan, sources: \"@none\", family: ipv6}\n"},
		{"a tab between words is no indentation", "version: 1\nzones:\t{lan: {interfaces: eth1}}\t# lan\n"},
		{"a range to one port", zones + "port_forward: {from: wan, protocol: tcp, ports: [8000-8010, 80], to: 10.0.0.1:80}\n"},
		{"an IPv6 target in brackets that YAML takes for a list", zones + "port_forward: {from: wan, protocol: tcp, ports: 80, to: [2001:db8::1]}\n"},
		{"ICMP types of one family, both protocols written", zones + "forward: {rules: {protocol: [icmp, icmpv6], icmp_types: echo-request, action: accept}}\n"},
		{"any port of any protocol by number", zones + "forward: {rules: {protocol: [0, 255, 89], action: accept}}\n"},
		{"no reserved ports", "version: 1\ngateway: {reserved_ports: []}\n"},
		{"an input without rules", "version: 1\ninput: {}\n"},
		{"UDP-Lite has the states of UDP", zones + "masquerade: {from: lan, to: wan, protocol: udplite, timeouts: {udp: {replied: 1m}}}\n"},
		{"a duration as long as the kernel can count", zones + "masquerade: {from: lan, to: wan, timeouts: {icmp: 596h}}\n"},
		{"a helper of two protocols", zones + "masquerade: {from: lan, to: wan, protocol: udp, helpers: sip}\n"},
		{"a mark that clears bits", zones + "forward: {rules: {action: accept, mark: 0x0/0xff}}\n"},
		{"a long prefix", zones + "forward: {rules: {action: drop, log: {prefix: " + strings.Repeat("x", 63) + "}}}\n"},
		{"two inside prefixes of one outside zone and both families", zones + "one_to_one: [{name: a, zone: wan, outside: 192.0.2.0/31, inside: 10.0.0.0/31}, {name: b, zone: wan, outside: \"2001:db8::\", inside: \"fd00::\"}]\n"},
		{"a redirect of every port", zones + "redirect: {from: lan, protocol: tcp, to_port: 9040}\n"},
		{"off, written out", "version: 1\nzones: {lan: {interfaces: eth1, symmetric: false, antispoof: false, default_route: false}}\nforward: {rules: {name: a, action: drop, log: false, synproxy: false}}\n"},
		{"the same default twice", "version: 1\nforward: {default: drop}\n"},
	} {
		if _, err := Parse("policy.yaml", []byte(c.text)); err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1":              "10.0.0.1",
		"10.0.0.1:80":           "10.0.0.1:80",
		"10.0.0.1:80-90":        "10.0.0.1:80-90",
		"[2001:db8::1]":         "2001:db8::1",
		"[2001:db8::1]:80":      "[2001:db8::1]:80",
		"[2001:db8::1]:80-90":   "[2001:db8::1]:80-90",
		"2001:db8::1:80":        "2001:db8::1:80",
		"2001:db8:0:0:0:0:1:80": "2001:db8::1:80",
	} {
		got, problem := parseTarget(text)
		if problem != "" || got.String() != want {
			t.Errorf("%s: %s (%s)", text, got, problem)
		}
	}
}

// TestQuickAndSlow holds the quick readers of line files against the thorough
// ones: what the first take, the second take the same way.
func TestQuickAndSlow(t *testing.T) {
	words := []string{"0.0.0.0", "1.2.3.4", "01.2.3.4", "1.2.3.256", "1.2.3", "1.2.3.4.5", "255.255.255.255", "127.0.0.1", "224.0.0.1",
		"1.2.3.4/32", "1.2.3.0/24", "1.2.3.4/24", "0.0.0.0/0", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/08", "1.2.3.4-1.2.3.4", "1.2.3.4-1.2.3.3", "1.2.3.4-", "::1"}
	for _, w := range words {
		low, high, ok := range4Of([]byte(w))
		slowLow, slowHigh, problem := parseSetLine(w)
		if ok && (problem != "" || addr4(low) != slowLow || addr4(high) != slowHigh) {
			t.Errorf("%s: %s-%s, and thoroughly %s-%s (%s)", w, addr4(low), addr4(high), slowLow, slowHigh, problem)
		}
		if !ok && problem == "" && netip.MustParseAddr(strings.Split(strings.Split(w, "/")[0], "-")[0]).Is4() {
			t.Errorf("%s: left to the thorough reader", w)
		}
		for _, from := range []string{"tcp/1", "udp/65535", "tcp/65536", "tcp/0", "tcp/10-20", "tcp/20-10", "tcp/010", "udp/", "tcp/1-", "sctp/1"} {
			for _, port := range []string{"", ":", ":1", ":65535", ":65536", ":0", ":05", ":1-2", ":10-20", "x"} {
				quick, ok := mapLineOf([]byte(from), []byte(w+port))
				slow, _, problem := parseMapping(from, w+port)
				if ok && (problem != "" || quick != slow) {
					t.Errorf("%s %s%s: %+v, and thoroughly %+v (%s)", from, w, port, quick, slow, problem)
				}
			}
		}
	}
}
