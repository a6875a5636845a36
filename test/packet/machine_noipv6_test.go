//go:build vm

package packet

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

// A kernel that was booted without IPv6 takes policies that say nothing of
// families, or speak of both, with each backend, and does what they say of IPv4.
func TestNoIPv6(t *testing.T) {
	if lab.HasIPv6() {
		t.Fatal("this kernel is to have no IPv6")
	}
	for _, backend := range append(variant.All(), "nftables") {
		t.Run(backend, func(t *testing.T) {
			t.Setenv(variant.Backend, backend)
			topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
			answering(topo.Server, topo.LAN1)
			listens(topo.LAN1, 8081, 9003)
			g := untouched(t, topo)

			// What speaks of IPv6 is taken, and told.
			file := []string{g.file(t, "both.yaml", homeRouter)}
			const told = "zone lan has IPv6 networks, and this kernel has no IPv6 (booted with ipv6.disable=1?): what the policy says of IPv6 has no effect"
			g.expects(t, 2, "plan", file, told)
			g.expects(t, 0, "apply", file, told, "applied and read back")
			g.expects(t, 0, "plan", file, told, "no difference: ")
			g.routes(t)
			g.expects(t, 0, "status", nil, "in force, as applied", "IPv4 on, IPv6 off")
			g.expects(t, 0, "connections list", nil, "masquerade lan-wan", "port_forward web")
			g.expects(t, 2, "doctor", nil, "broken: the kernel has no IPv6, and zone lan has IPv6 networks [ipv6-disabled]")
			if stderr, stdout := g.says(t, 2, "doctor"); strings.Count(stderr+stdout, "broken: ") != 1 {
				t.Errorf("doctor says more than the cause:\n%s%s", stdout, stderr)
			}
			g.expects(t, 0, "explain", []string{"--from", "wan", "--source", lab.Outside, "--destination", lab.GatewayUplink, "--protocol", "tcp", "--port", "80"},
				"PASSES by port_forward web", "192.168.1.10:8081")

			// The daemon, and another policy, that says nothing of families.
			d := g.runs(t, file...)
			d.tells(t, "READY=1")
			d.stops(t, syscall.SIGTERM)
			g.routes(t)
			plain := []string{g.file(t, "plain.yaml", "version: 1\nzones:\n  lan: {interfaces: [eth1]}\n  wan: {interfaces: [eth0]}\nmasquerade: [{from: lan, to: wan}]\n")}
			if stderr, _ := g.says(t, 0, "apply", plain...); strings.Contains(stderr, "IPv6") {
				t.Errorf("what nobody asked for is told:\n%s", stderr)
			}
			opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
			g.expects(t, 0, "doctor", nil)
			g.delete(t)
		})
	}
}

// Answers leave by the uplink that the question came by, which takes routes and
// rules of IPv4 alone there.
func TestNoIPv6Symmetric(t *testing.T) {
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	listens(topo.LAN1, 8081)
	g := untouched(t, topo)
	g.program = built.Ipmasq(t)
	g.apply(t, `
zones:
  lan: {interfaces: [eth1]}
  wan: {interfaces: [eth0], symmetric: true}
  wan2: {interfaces: [eth3], symmetric: {gateway: [192.0.2.1, "fe80::1"]}}
masquerade: [{from: lan, to: [wan, wan2]}]
port_forward: [{name: web, from: [wan, wan2], protocol: tcp, ports: 80, to: "192.168.1.10:8081"}]
`)
	lands(t, "tcp", g.Server, at(lab.GatewayUplink, 80), at(lab.LAN1, 8081), "")
	lands(t, "tcp", g.Server, at(lab.GatewayUplink2, 80), at(lab.LAN1, 8081), "")
	g.delete(t)
	if left := g.GW.Run(t, "ip", "rule"); strings.Count(left, "\n") != 3 {
		t.Errorf("rules are left:\n%s", left)
	}
}
