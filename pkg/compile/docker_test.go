package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// passing are what Docker's rules are to let pass, a word each: "4 eth1>eth0" and,
// of answers alone, "4 eth0<eth1".
func passing(t *testing.T, text string, facts compile.Facts) (out []string, r *compile.Result) {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = compile.Compile(p, facts); err != nil {
		t.Fatal(err)
	}
	if r.Ruleset.Docker == nil {
		return nil, r
	}
	side := func(name string, at netip.Prefix) string {
		if at.IsValid() {
			name += "/" + at.String()
		}
		return name
	}
	for _, x := range r.Ruleset.Docker.Passing {
		family, arrow := "4", ">"
		if x.Family == ruleset.IPv6 {
			family = "6"
		}
		if x.Answers {
			arrow = "<"
		}
		out = append(out, family+" "+side(x.In, x.From)+arrow+side(x.Out, x.To))
	}
	return out, r
}

func TestDockerPassing(t *testing.T) {
	const (
		zones    = "zones:\n  lan: {interfaces: eth1, networks: 192.168.1.0/24}\n  wan: {interfaces: eth0}\n"
		accept   = "gateway: {docker: accept}\n"
		outwards = "4 eth1>eth0, 4 eth0<eth1"
	)
	host := compile.Facts{Links: []compile.Link{
		{Name: "eth1", Addresses: []compile.Addr{netip.MustParsePrefix("192.168.1.1/24")}},
		{Name: "docker0", Addresses: []compile.Addr{netip.MustParsePrefix("172.17.0.1/16")}},
	}}
	for _, c := range []struct {
		name, policy string
		facts        compile.Facts
		want         string
	}{
		{"the key is not there", zones + "masquerade:\n  - {from: lan, to: wan}\n", host, ""},
		{"nothing passes", zones + accept, host, ""},
		{"a masquerade", zones + accept + "masquerade:\n  - {from: lan, to: wan}\n", host, outwards},
		{"one that opens nothing", zones + accept + "masquerade:\n  - {from: lan, to: wan, forward: false}\n", host, ""},
		{"rules that accept", zones + accept + "forward:\n  rules:\n    - {from: lan, to: wan, action: accept}\n    - {from: wan, to: lan, protocol: tcp, ports: 25, action: drop}\n", host, outwards},
		{"to any is to zones", zones + accept + "forward:\n  rules:\n    - {from: lan, action: accept}\n", host, "4 eth1>eth0, 4 eth1>eth1, 4 eth0<eth1"},
		{"a default", zones + accept + "forward: {default: accept}\n", host, "4 eth0>eth0, 4 eth0>eth1, 4 eth1>eth0, 4 eth1>eth1, 6 eth0>eth0"},
		{"a port forward", zones + accept + "port_forward:\n  - {from: wan, protocol: tcp, ports: 80, to: 192.168.1.9, hairpin: false}\n", host, "4 eth0>eth1, 4 eth1<eth0"},
		{"its hairpin", zones + accept + "port_forward:\n  - {from: wan, protocol: tcp, ports: 80, to: 192.168.1.9}\n", host, "4 eth0>eth1, 4 eth1>eth1, 4 eth1<eth0"},
		{"to a container", zones + accept + "port_forward:\n  - {from: wan, protocol: tcp, ports: 80, to: 172.17.0.2, hairpin: false}\n", host,
			"4 eth0>docker0/172.17.0.2/32, 4 docker0/172.17.0.2/32<eth0"},
		{"to nobody knows where", zones + accept + "port_forward:\n  - {from: wan, protocol: tcp, ports: 80, to: 172.17.0.2, hairpin: false}\n", compile.Facts{}, "4 eth0>/172.17.0.2/32, 4 /172.17.0.2/32<eth0"},
		{"one_to_one", zones + accept + "one_to_one:\n  - {name: host, zone: wan, outside: 203.0.113.9, inside: 192.168.1.9, expose: [tcp/80]}\n", host,
			"4 eth0>eth1, 4 eth1>eth0, 4 eth1>eth1"},
		{"wildcards, and zones without interfaces",
			"zones:\n  lan: {interfaces: \"eth*\", networks: 192.168.0.0/16}\n  far: {networks: [10.0.0.0/8, 172.16.0.1-172.16.0.3]}\n" + accept + "forward:\n  rules:\n    - {from: lan, to: far, action: accept}\n", host,
			"4 eth*>/10.0.0.0/8, 4 eth*>/172.16.0.1/32, 4 eth*>/172.16.0.2/31, 4 /10.0.0.0/8<eth*, 4 /172.16.0.1/32<eth*, 4 /172.16.0.2/31<eth*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := passing(t, c.policy, c.facts)
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("what passes is\n%s\nwant\n%s", text, c.want)
			}
		})
	}
}

// What Docker's own nftables rules know by a mark is marked, and nothing else.
func TestDockerMarks(t *testing.T) {
	const text = `
zones:
  lan: {interfaces: eth1}
  wan: {interfaces: eth0}
  apps: {interfaces: "br-*"}
  bare: {interfaces: docker1}
masquerade:
  - {from: lan, to: wan}
forward:
  rules:
    - {from: lan, to: [apps, bare], family: ipv4, action: accept}
`
	facts := compile.Facts{Docker: &compile.Docker{
		Tables: []compile.DockerTable{{Family: ruleset.IPv4, Drops: true}, {Family: ruleset.IPv6}},
		Marks: []compile.DockerMark{
			{Bridge: "br-1", Family: ruleset.IPv4, Value: 0x10, Mask: 0x30}, {Bridge: "br-1", Family: ruleset.IPv6, Value: 0x10, Mask: 0x30},
			{Bridge: "docker0", Family: ruleset.IPv4, Value: 0x10, Mask: 0x30}, {Bridge: "docker1", Family: ruleset.IPv4},
		},
	}}
	_, r := passing(t, text+"gateway: {docker: accept}\n", facts)
	chain := slices.IndexFunc(r.Ruleset.Chains, func(c *ruleset.Chain) bool { return c.Name == "docker_forward" })
	if chain < 0 {
		t.Fatal("there is no chain docker_forward")
	}
	rules := r.Ruleset.Chains[chain].Rules
	if len(rules) != 2 || len(rules[0].Matches) != 3 || fmt.Sprintf("%+v", rules[0].Do[0]) != fmt.Sprintf("%+v", ruleset.Statement{Kind: ruleset.SetMark, Value: 0x10, Mask: 0x30}) {
		t.Errorf("the chain has %d rules: %+v", len(rules), rules[0])
	}
	var said []string
	for _, w := range r.Warnings {
		said = append(said, w.Message)
	}
	warnings := strings.Join(said, "\n")
	for _, want := range []string{"let nothing of IPv4 pass to docker1 by a mark", "ip docker-bridges filter-FORWARD drops"} {
		if !strings.Contains(warnings, want) || strings.Count(warnings, want) != 1 {
			t.Errorf("the warnings have not once %q:\n%s", want, warnings)
		}
	}
	if len(said) != 2 {
		t.Errorf("the warnings are\n%s", warnings)
	}
	if _, r := passing(t, text, facts); slices.ContainsFunc(r.Ruleset.Chains, func(c *ruleset.Chain) bool { return c.Name == "docker_forward" }) || len(r.Warnings) > 0 {
		t.Error("without the key there is something of it")
	}
}
