package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// filterOf reads flags as a command does.
func filterOf(args ...string) (f *flowFilter, err error) {
	app := &cli.App{
		HideHelp: true, Writer: io.Discard, ErrWriter: io.Discard,
		Flags:  filterFlags(),
		Action: func(c *cli.Context) error { f, err = readFilter(c); return nil },
	}
	if ran := app.Run(append([]string{"x"}, args...)); ran != nil {
		return nil, ran
	}
	return f, err
}

// Which of these connections a filter allows, by their numbers.
func TestFilter(t *testing.T) {
	_, all, _ := testFlows()
	judged := func(from, to, entry string) flows.Judgement {
		j := flows.Judgement{From: from, To: to}
		j.Origin.Entry = entry
		return j
	}
	all[3].Judgement = judged("", "gateway", "")
	all[4].Judgement = judged("lan", "wan", "forward default")
	for _, test := range []struct{ flags, want string }{
		{"", "0 1 2 3 4 5 6"},
		{"--source 192.168.1.10", "0"},
		{"--source 203.0.113.7", "0"}, // after translation
		{"--source 192.168.1.0/24,192.0.2.1", "0 2"},
		{"--source 192.168.1.9-192.168.1.11", "0"},
		{"--source 192.168.1.11-192.168.2.255", ""},
		{"--source 2001:db8:9::/48", "1"},
		{"--destination fd00::10", "1"}, // after translation
		{"--destination 2001:db8::1 --destination 10.0.0.2", "1 3 4"},
		{"--source ::ffff:192.168.1.10", "0"},
		{"--source ::ffff:192.168.1.0/120", "0"},
		{"--source 0.0.0.0-255.255.255.255", "0 2 3 4"},
		{"--source-port 4000", "0"},
		{"--destination-port 8080", "1"},
		{"--destination-port 80-443", "0 1"},
		{"--port 4000,5353", "0 2"},
		{"--port 65535", "1"},
		{"--protocol tcp", "0 1 6"},
		{"--protocol 17,icmp", "2 3"},
		{"--family ipv6", "1"},
		{"--state established", "0"},
		{"--state syn_sent2,established", "0 1"},
		{"--state assured", "0"},
		{"--state unreplied", "1 3 4 5 6"},
		{"--state replied", "0 2"},
		{"--state expected,syn_sent2", "1 2"},
		{"--state snat,dnat", "0 1"},
		{"--nat", "0 1"},
		{"--nat --state assured", "0"},
		{"--mark 0x1f", "0"},
		{"--mark 0x1/0x1", "0"},
		{"--mark 0/0x1", "1 2 3 4 5 6"},
		{"--mark 31,0x2", "0"},
		{"--zone lan", "0 1 4"},
		{"--zone gateway", "3"},
		{"--zone -", "2 3 5 6"},
		{"--from lan", "0 4"},
		{"--to lan,gateway", "1 3"},
		{"--from lan --to wan --protocol tcp", "0"},
		{"--entry -", "2 3 5 6"},
		{"--entry web", "1"},
		{"--entry", ""}, // takes the next flag's place below
	} {
		args := strings.Fields(test.flags)
		if test.flags == "--entry" {
			args, test.want = []string{"--entry", " port_forward  web,masquerade lan-wan"}, "0 1"
		}
		f, err := filterOf(args...)
		if err != nil {
			t.Errorf("%s: %v", test.flags, err)
			continue
		}
		if err := f.resolve(testPolicy()); err != nil {
			t.Errorf("%s: %v", test.flags, err)
			continue
		}
		if f.given != (test.flags != "") {
			t.Errorf("%s: given is %v", test.flags, f.given)
		}
		var got []string
		for i := range all {
			c, j := &all[i].Flow, &all[i].Judgement
			if f.kernel.Match(c) && f.matchesRest(c) && f.matchesPolicy(j) {
				got = append(got, fmt.Sprint(i))
			}
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s: %s, want %s", test.flags, got, test.want)
		}
	}
}

func testPolicy() *policy.Policy {
	p := &policy.Policy{Zones: []policy.Zone{{Name: "lan"}, {Name: "wan"}}, Input: &policy.Forward{}}
	p.Masquerade = []policy.Masquerade{{Name: "lan-wan"}}
	p.PortForward = []policy.PortForward{{Name: "web"}, {Name: "dns"}}
	p.Forward.Rules = []policy.Rule{{Name: "dns"}}
	return p
}

func TestFilterMistakes(t *testing.T) {
	for flags, want := range map[string]string{
		"--source=":                                `--source "": is empty`,
		"--source host":                            "--source host: is not an address, a prefix (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9)",
		"--source 10.0.0.0/33":                     "--source 10.0.0.0/33: is not an address with the length of its prefix, as 192.0.2.0/24",
		"--source 10.0.0.1/8":                      "--source 10.0.0.1/8: has bits set behind its prefix; write 10.0.0.0/8, or the address alone",
		"--destination 10.0.0.9-10.0.0.1":          "--destination 10.0.0.9-10.0.0.1: is the wrong way round; write 10.0.0.1-10.0.0.9",
		"--destination 10.0.0.9-fd00::1":           "--destination 10.0.0.9-fd00::1: begins and ends in different families",
		"--destination fe80::1%eth0":               "--destination fe80::1%eth0: names an interface, which a flow does not have; write fe80::1",
		"--source-port 0":                          "--source-port 0: is not a port from 1 to 65535, or a range of them, as 8000-8080",
		"--destination-port 65536":                 "--destination-port 65536: is not a port from 1 to 65535, or a range of them, as 8000-8080",
		"--port 90-80":                             "--port 90-80: is the wrong way round; write 80-90",
		"--port http":                              "--port http: is not a port from 1 to 65535, or a range of them, as 8000-8080",
		"--protocol tpc":                           "--protocol tpc: no such protocol; did you mean tcp?",
		"--protocol 256":                           "--protocol 256: no such protocol; there are tcp, udp, sctp, udplite, icmp, icmpv6, gre, esp, ah or a number from 0 to 255",
		"--family ipv5":                            "--family ipv5: no such family; did you mean ipv4?",
		"--family inet":                            "--family inet: no such family; there are ipv4 and ipv6",
		"--state ESTABLISHED":                      "--state ESTABLISHED: no such state; did you mean established?",
		"--state estab":                            "--state estab: no such state; did you mean established?",
		"--state none":                             "--state none: no such state; there are syn_sent, syn_recv, established, fin_wait, close_wait, last_ack, time_wait, close, syn_sent2, assured, unreplied, replied, snat, dnat and expected",
		"--mark x":                                 "--mark x: is not a mark, as 0x1, or bits of one, as 0x1/0xff",
		"--mark 0x100000000":                       "--mark 0x100000000: is not a mark, as 0x1, or bits of one, as 0x1/0xff",
		"--mark 0/0":                               "--mark 0/0: looks at no bit; write a mask other than 0",
		"--mark 0x10/0xf":                          "--mark 0x10/0xf: has bits set that the mask leaves out; write 0x0/0xf",
		"--zone=":                                  `--zone "": is empty`,
		"--zone lna":                               "--zone lna: the policy that was applied last has no such zone; did you mean lan?",
		"--from dmz":                               "--from dmz: the policy that was applied last has no such zone",
		"--entry wbe":                              "--entry wbe: the policy that was applied last has no such entry; did you mean web?",
		"--entry dns":                              "--entry dns: there are several: forward dns, port_forward dns",
		"--entry default":                          "--entry default: there are several: forward default, input default",
		"--entry=port_forward|wbe":                 `--entry "port_forward wbe": the policy that was applied last has no such entry; did you mean "port_forward web"?`,
		"--protocol icmp --port 80":                "--protocol icmp: has no ports, and ports are asked for",
		"--protocol udp --state close":             "--state close: is a state of tcp, and --protocol leaves that out",
		"--family ipv6 --source 10.0.0.0/8":        "--source 10.0.0.0/8: is not of the --family that is asked for",
		"--family ipv4 --destination fd00::1":      "--destination fd00::1: is not of the --family that is asked for",
		"--source 10.0.0.1 --source-port 1,2,3,x9": "--source-port x9: is not a port from 1 to 65535, or a range of them, as 8000-8080",
	} {
		args := strings.Fields(flags)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "|", " ")
		}
		f, err := filterOf(args...)
		if err == nil {
			err = f.resolve(testPolicy())
		}
		if _, ok := err.(usageError); !ok || err.Error() != want {
			t.Errorf("%s:\n%v\nwant\n%s", flags, err, want)
		}
	}
	for _, flags := range [][]string{{"--zone", "lan"}, {"--entry", "web"}} {
		f, err := filterOf(flags...)
		if err == nil {
			err = f.resolve(nil)
		}
		if err == nil || !strings.Contains(err.Error(), "no policy was applied here") {
			t.Errorf("%v without a policy: %v", flags, err)
		}
	}
}

// A range becomes prefixes that hold all of it, and nothing else.
func TestPrefixesOf(t *testing.T) {
	for _, r := range [][2]string{
		{"10.0.0.1", "10.0.0.1"}, {"10.0.0.1", "10.0.0.6"}, {"10.0.0.0", "10.0.0.255"}, {"0.0.0.0", "255.255.255.255"},
		{"255.255.255.254", "255.255.255.255"}, {"10.0.0.255", "10.0.1.1"}, {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, {"fd00::fffe", "fd00::1:2"},
	} {
		low, high := netip.MustParseAddr(r[0]), netip.MustParseAddr(r[1])
		list := prefixesOf(low, high)
		next := low
		for i, p := range list {
			if p.Masked() != p || p.Addr() != next {
				t.Errorf("%s-%s: %v", low, high, list)
			}
			if next = policy.LastOf(p).Next(); i == len(list)-1 && policy.LastOf(p) != high {
				t.Errorf("%s-%s: ends at %s", low, high, policy.LastOf(p))
			}
		}
	}
}

// What the kernel has words for is left to it.
func TestFilterPushes(t *testing.T) {
	f, err := filterOf("--state", "assured", "--mark", "1/3", "--protocol", "tcp", "--source", "10.0.0.0/8", "--nat")
	if err != nil {
		t.Fatal(err)
	}
	k := f.kernel
	if k.Status != conntrack.StatusAssured || k.StatusMask != conntrack.StatusAssured || k.Mark != 1 || k.MarkMask != 3 || !k.Translated ||
		len(k.Protocols) != 1 || len(k.Sources) != 1 || len(f.states)+len(f.marks) != 0 || f.judged() {
		t.Errorf("%+v", f)
	}
}
