package iptables

import (
	"net/netip"
	"strings"
	"testing"
)

func TestChainNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"forward":                          "IPMASQ-forward",
		"nat_prerouting_from_lan":          "IPMASQ-dnat_from_lan",
		"leak_guard_of_masquerade_lan-wan": "IPMASQ-guard_of_masqu-da83f4",
		"twenty_one_characters":            "IPMASQ-twenty_one_characters",
		"a b":                              "IPMASQ-a_b-e63f99",
	} {
		got := chainName(name, plain)
		if len(got) > maxChain || strings.ContainsAny(got, ` "`) {
			t.Errorf("%s: iptables does not take %s", name, got)
		}
		if got != want {
			t.Errorf("%s is called %s, want %s: names are to stay the same", name, got, want)
		}
		if chainName(name, dropping) == got {
			t.Errorf("%s: its copy has the same name", name)
		}
	}
}

// A comment gives back the entry and the counter that it was made from, through
// the quotes of iptables-save.
func TestComments(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"", ""}, {"ipmasq", ""}, {"port_forward web", "x"}, {"", "sent"}, {"port_forward web", "+port_forward web"},
		{`it's "a" \ b`, "c"}, {"a # b", "c"}, {"snat x", "leak_stopped_+snat y"}, {strings.Repeat("x", 127), "+" + strings.Repeat("x", 127)},
	} {
		text := comment(c[0], c[1])
		if len(text) > 255+len("-m comment --comment ") {
			t.Errorf("%v: too long: %d", c, len(text))
		}
		if entry, counter := uncomment(commentOf("-i eth0 " + text + " -j ACCEPT")); entry != c[0] || counter != c[1] {
			t.Errorf("%v was read as %q, %q from %s", c, entry, counter, text)
		}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	in := func(not bool, name string) atom { return atom{slot: input, not: not, text: name} }
	proto := func(not bool, p uint8) atom { return atom{slot: protocol, not: not, proto: p} }
	dport := func(not bool, lo, hi uint16) atom {
		return atom{slot: destinationPort, not: not, ports: [2]uint16{lo, hi}}
	}
	src := func(not bool, lo, hi string) atom {
		return atom{slot: source, not: not, lo: netip.MustParseAddr(lo), hi: netip.MustParseAddr(hi)}
	}
	asked := func(not bool, text string) atom { return atom{slot: flags, not: not, text: text} }
	const never = "-"
	for _, c := range []struct {
		want string
		condition
	}{
		{"", nil},
		{"-i eth0", condition{in(false, "eth0"), in(true, "eth1"), in(false, "eth+")}},
		{never, condition{in(false, "eth0"), in(false, "eth1")}},
		{never, condition{in(false, "eth0"), in(true, "e+")}},
		{"! -i e+", condition{in(true, "eth0"), in(true, "e+")}},
		{"", condition{in(false, "+")}},
		{never, condition{in(true, "+")}},
		{"-s 10.0.0.0/24", condition{src(false, "10.0.0.0", "10.0.0.255")}},
		{"-m iprange --src-range 10.0.0.1-10.0.0.9", condition{src(false, "10.0.0.1", "10.0.0.9")}},
		{"-s 10.0.0.0/8 -m iprange ! --src-range 10.1.0.0-10.1.255.255", condition{src(false, "10.0.0.0", "10.255.255.255"), src(true, "10.1.0.0", "10.1.255.255")}},
		{"", condition{src(false, "0.0.0.0", "255.255.255.255")}},
		{never, condition{src(true, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}},
		{"-p tcp -m tcp --dport 80:89 -m multiport ! --dports 85", condition{proto(false, 6), dport(false, 80, 89), dport(true, 85, 85)}},
		{"-p udplite -m multiport --dports 80", condition{proto(false, 136), dport(false, 80, 80)}},
		{never, condition{proto(false, 1), dport(false, 80, 80)}},
		{"-p tcp", condition{proto(false, 6), dport(false, 0, 65535)}},
		{never, condition{proto(false, 6), proto(false, 17)}},
		{never, condition{proto(false, 6), proto(true, 6)}},
		{"-p tcp", condition{proto(true, 17), proto(false, 6)}},
		{"-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", condition{proto(false, 6), asked(false, "FIN,SYN,RST,ACK SYN"), asked(false, "SYN,RST SYN")}},
		{never, condition{proto(false, 6), asked(false, "SYN,RST SYN"), asked(false, "SYN,ACK ACK")}},
		{"-p tcp -m tcp --tcp-flags SYN SYN -m tcp ! --tcp-flags ACK NONE", condition{proto(false, 6), asked(true, "ACK NONE"), asked(false, "SYN SYN")}},
	} {
		got, possible, err := c.text()
		if !possible {
			got = never
		}
		if err != nil || got != c.want {
			t.Errorf("%+v: %q (%v), want %q", c.condition, got, err, c.want)
		}
	}
	for _, c := range []condition{{in(true, "eth0"), in(true, "ppp0")}, {in(false, "eth+"), in(true, "eth0")}, {proto(true, 6), proto(true, 17)}} {
		if text, possible, err := c.text(); err == nil {
			t.Errorf("%+v is %q (%v), and iptables cannot say that", c, text, possible)
		}
	}
	if n := len((condition{dport(false, 1, 2)}).expand()); n != len(protocols()) {
		t.Errorf("a port is that of %d protocols", n)
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ lo, hi, want string }{
		{"10.0.0.0", "10.0.0.255", "10.0.0.0/24"},
		{"10.0.0.1", "10.0.0.4", "10.0.0.1/32 10.0.0.2/31 10.0.0.4/32"},
		{"0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"255.255.255.254", "255.255.255.255", "255.255.255.254/31"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
		{"2001:db8::", "2001:db8::2", "2001:db8::/127 2001:db8::2/128"},
	} {
		var got []string
		for _, p := range prefixes(netip.MustParseAddr(c.lo), netip.MustParseAddr(c.hi)) {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s to %s is %v, want %s", c.lo, c.hi, got, c.want)
		}
	}
}
