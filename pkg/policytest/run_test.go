package policytest_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// claims is a kernel that says of every packet what it is told to.
type claims struct {
	seen  policytest.Seen
	fresh int
	sent  []simulate.Packet
	err   error
}

func (c *claims) Fresh() error { c.fresh++; return nil }

func (c *claims) Send(p simulate.Packet) (policytest.Seen, error) {
	c.sent = append(c.sent, p)
	return c.seen, c.err
}

// gateway writes a test about testdata/wrong/gateway.yaml.
func gateway(t *testing.T, tests string) *policytest.Gateway {
	t.Helper()
	f, err := policytest.Parse("testdata/wrong/x.test.yaml", []byte("policy: gateway.yaml\ntests:\n"+tests))
	if err != nil {
		t.Fatal(err)
	}
	g, err := f.Gateway()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// differences of all packets, each in a line.
func differences(results []policytest.Result) []string {
	var out []string
	for _, r := range results {
		for _, p := range r.Packets {
			for _, d := range p.Differences {
				out = append(out, fmt.Sprintf("%d:%d %s: %s, not %s (%s)", d.Line, d.Column, d.Field, d.Got, d.Expected, d.By))
			}
			for _, d := range p.Disputed {
				out = append(out, fmt.Sprintf("disputed %s: %s, %s", d.Field, d.Simulated, d.Kernel))
			}
		}
	}
	return out
}

const web = "  - {name: web, packet: {from: lan, source: 192.168.1.20, destination: 198.51.100.9, protocol: tcp, port: 443}, expect: "

// Each field that is expected, and came otherwise.
func TestExpect(t *testing.T) {
	for expect, want := range map[string]string{
		"{verdict: accept, entry: masquerade lan-wan, to: wan, interface: eth0, source: 203.0.113.2, source_port: same, destination: same, port: 443, mark: 0x0}": "",
		"{source: 203.0.113.0/24, source_port: 1-65535, port: [80, 443]}":                                                                                         "",
		"{verdict: drop}":                                "3:131 verdict: accept, not drop (simulation)",
		"{verdict: local}":                               "3:131 verdict: accept, not local (simulation)",
		"{entry: port_forward web}":                      "3:129 entry: masquerade lan-wan, not port_forward web (simulation)",
		"{entry: [masquerade lan-wan, forward default]}": "3:150 entry: masquerade lan-wan, not forward default (simulation)",
		"{to: lan}":                                      "3:126 to: wan, not lan (simulation)",
		"{interface: eth1}":                              "3:133 interface: eth0, not eth1 (simulation)",
		"{source: same}":                                 "3:130 source: 203.0.113.2, not same (192.168.1.20) (simulation)",
		"{source: 203.0.113.3-203.0.113.9, destination: 192.0.2.1}": "3:130 source: 203.0.113.2, not 203.0.113.3-203.0.113.9 (simulation)\n3:168 destination: 198.51.100.9, not 192.0.2.1 (simulation)",
		"{source_port: 1-1023, port: 80}":                           "3:135 source_port: 40000, not 1-1023 (simulation)\n3:149 port: 443, not 80 (simulation)",
		"{mark: 0x1/0x3}":                                           "3:128 mark: 0x0, not 0x1/0x3 (simulation)",
		"{verdict: accept, mark: 0x0/0x3}":                          "",
	} {
		results, err := gateway(t, web+expect+"}\n").Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(differences(results), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", expect, got, want)
		}
	}
}

// The simulation and the kernel are asked the same, each for itself.
func TestRunWithKernel(t *testing.T) {
	left := simulate.Ends{Source: netip.MustParseAddr("203.0.113.2"), SourcePort: 40000, Destination: netip.MustParseAddr("198.51.100.9"), DestinationPort: 443}
	away := left
	away.Source = netip.MustParseAddr("203.0.113.77")
	for _, c := range []struct {
		expect string
		seen   policytest.Seen
		want   string
	}{
		{"{verdict: accept, source: 203.0.113.2, to: wan}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth0", Left: left}, ""},
		{"{verdict: accept}", policytest.Seen{Verdict: simulate.Dropped}, "3:131 verdict: drop, not accept (kernel)\ndisputed verdict: accept, drop"},
		{"{verdict: drop}", policytest.Seen{Verdict: simulate.Dropped}, "3:131 verdict: accept, not drop (simulation)\ndisputed verdict: accept, drop"},
		{"{verdict: drop}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth0", Left: left}, "3:131 verdict: accept, not drop (both)"},
		{"{to: lan}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth0", Left: left}, "3:126 to: wan, not lan (both)"},
		{"{verdict: accept}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth0", Left: away}, "disputed source: 203.0.113.2, 203.0.113.77"},
		{"{source: 203.0.113.2}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth0", Left: away},
			"3:130 source: 203.0.113.77, not 203.0.113.2 (kernel)\ndisputed source: 203.0.113.2, 203.0.113.77"},
		{"{verdict: accept}", policytest.Seen{Verdict: simulate.Forwarded, Out: "eth1", Left: left}, "disputed to: wan, none\ndisputed interface: eth0, eth1"},
	} {
		k := &claims{seen: c.seen}
		results, err := gateway(t, web+c.expect+"}\n").Run(k)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(differences(results), "\n"); got != c.want {
			t.Errorf("%s, %+v:\n%s\nwant:\n%s", c.expect, c.seen, got, c.want)
		}
		if k.fresh != 1 || len(k.sent) != 1 || k.sent[0].Interface != "eth1" {
			t.Errorf("%d times fresh, sent %+v", k.fresh, k.sent)
		}
	}
	broken := errors.New("no kernel")
	if _, err := gateway(t, web+"{verdict: accept}}\n").Run(&claims{err: broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// Lists make a packet for each combination, from a port of its own.
func TestPackets(t *testing.T) {
	g := gateway(t, `  - name: lists
    packet:
      - {from: lan, source: [192.168.1.20, "fd00:1::20"], destination: [198.51.100.9, "2001:db8:9::9"], protocol: [tcp, udp], port: [80, 1000-1010]}
      - {from: lan, source: [192.168.1.20, "fd00:1::20"], destination: [198.51.100.9, "2001:db8:9::9"], icmp_type: echo-request}
      - {from: gateway, destination: 198.51.100.9, protocol: [icmp, gre]}
      - {from: lan, source: 192.168.1.20, destination: 198.51.100.9, protocol: udp, port: 53, source_port: 53}
    expect: {verdict: accept}
`)
	packets := g.File.Tests[0].Packets
	if len(packets) != 2*2*3+2+2+1 {
		t.Fatalf("%d packets", len(packets))
	}
	ports := map[uint16]bool{}
	for _, p := range packets[:12] {
		if ports[p.SourcePort] || p.Source.Is4() != p.Destination.Is4() {
			t.Errorf("%+v", p.Packet)
		}
		ports[p.SourcePort] = true
	}
	if p := packets[12:14]; p[0].Protocol != 1 || p[0].ICMPType != 8 || p[1].Protocol != 58 || p[1].ICMPType != 128 {
		t.Errorf("%+v", p)
	}
	if p := packets[14]; p.From != flows.Gateway || p.ICMPType != 8 {
		t.Errorf("%+v", p)
	}
	if p := packets[16]; p.SourcePort != 53 {
		t.Errorf("%+v", p)
	}
}

// Entries are counted over all files of a policy, by what they did.
func TestCover(t *testing.T) {
	out := gateway(t, web+"{verdict: accept}}\n")
	closed := gateway(t, "  - {name: x, packet: {from: wan, source: 198.51.100.9, destination: 192.168.1.10, protocol: tcp, port: 80}, expect: {verdict: drop}}\n")
	in := gateway(t, "  - {name: x, packet: {from: wan, source: [198.51.100.9, 198.51.100.8], destination: 203.0.113.2, protocol: tcp, port: 80}, expect: {verdict: accept}}\n")
	var files []policytest.Tested
	for i, want := range []string{"0 of 2, 0%: [0 0]", "1 of 2, 50%: [1 0]", "2 of 2, 100%: [1 2]"} {
		g := []*policytest.Gateway{closed, out, in}[i]
		results, err := g.Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, policytest.Tested{Gateway: g, Results: results})
		cover := policytest.Cover(files)
		if len(cover) != 1 {
			t.Fatalf("%d policies", len(cover))
		}
		var counts []int
		for _, e := range cover[0].Entries {
			counts = append(counts, e.Packets)
		}
		if got := fmt.Sprintf("%d of %d, %d%%: %v", cover[0].Tested(), len(counts), cover[0].Percent(), counts); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := (&policytest.Coverage{}).Percent(); got != 100 {
		t.Errorf("%d percent of nothing", got)
	}
}

// Whatever is in a file, reading it comes to an end, and mistakes have places.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"tests: [{name: x, packet: {from: lan, source: 1.2.3.4, destination: 1.2.3.4, protocol: tcp, port: 1-2}, expect: {verdict: drop}}]",
		"policy: [a, b]\nhost: {links: {eth0: {addresses: 1.2.3.4/8, gateway: none}}, routes: {to: default, via: 1.2.3.4}, rules: {mark: 1, table: 2}}\ntests: []",
		"tests: &a [*a]", "host: &x {links: *x}", "tests: {}", "- 1", "%YAML 1.2\n---\ntests: 1",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := policytest.Parse("x.test.yaml", text)
		var bad *policytest.Invalid
		if errors.As(err, &bad) {
			if slices.ContainsFunc(bad.Errors, func(e *policy.Error) bool { return e.Line < 1 || e.Column < 1 || e.Message == "" }) {
				t.Errorf("a mistake without a place: %v", bad)
			}
		} else if err != nil || file == nil {
			t.Errorf("%v", err)
		}
	})
}
