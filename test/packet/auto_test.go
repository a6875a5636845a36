//go:build vm

package packet

import (
	"os"
	"strings"
	"testing"
	"errors"
	"os/exec"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

const homeRouter = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0], mss_clamp: pmtu}
sets:
  office: [198.51.100.0/28, "2001:db8:2::/112", 192.0.2.1, 192.0.2.3, 192.0.2.5, 192.0.2.7, 192.0.2.9, 192.0.2.11, 192.0.2.13, 192.0.2.15, 192.0.2.17]
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:8081", "[fd00:1::10]:8081"], hairpin: true}
  - {name: ssh, from: wan, protocol: tcp, ports: 2222, to: ["192.168.1.10:22", "[fd00:1::10]:22"], sources: "@office"}
  - {name: games, from: wan, protocol: udp, ports: 27015-27030, to: "192.168.1.10"}
  - {name: late, from: wan, protocol: tcp, ports: 8000-8010, to: "192.168.1.10:9000-9010", max_connections: {per_host: 20}, log: {prefix: "late "}}
forward:
  rules:
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
`

func TestVMAutoExplore(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := &gateway{Topology: topo, dir: topo.Dir(), program: built.Ipmasq(t), variant: "iptables-legacy"}
	g.rules, g.sysctl = g.ruleset(t), g.sysctls(t)
	file := g.file(t, "policy.yaml", homeRouter)
	answering(topo.Server, topo.LAN1)
	topo.LAN1.ServeTCP(":8081")
	run := func(args ...string) {
		c := exec.Command(g.program, append(args, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state")...)
		var out, errs strings.Builder
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { t.Error(err) }
		t.Logf("ipmasq %s: %d\n--- stdout\n%s--- stderr\n%s", strings.Join(args, " "), c.ProcessState.ExitCode(), &out, &errs)
	}
	mods := func() { b, _ := os.ReadFile("/proc/modules"); var n []string; for l := range strings.Lines(string(b)) { n = append(n, strings.Fields(l)[0]) }; t.Log(strings.Join(n, " ")) }
	mods()
	run("status"); run("doctor", file); run("plan", file); mods()
	run("apply", file); mods()
	run("plan", file); run("status"); run("doctor", file); run("doctor")
	opens(t, topo.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
	opens(t, topo.LAN1, at(lab.Outsidev6, 80), lab.GatewayUplinkv6)
	run("connections", "list"); run("connections", "count"); run("status", "-o", "json")
	run("explain", "--from", "wan", "--source", "198.51.100.9", "--destination", "203.0.113.2", "--protocol", "tcp", "--port", "80")
	run("explain", "--live", "--from", "lan", "--source", "192.168.1.10", "--destination", "198.51.100.9", "--protocol", "tcp", "--port", "80")
	run("history")
	run("apply", "--confirm", "30s", file); run("confirm")
	run("rollback"); run("status"); run("rollback"); run("delete"); run("status")
	run("apply", file); run("apply", file)
	d := g.runs(t, file)
	d.logs(t, "ipmasq: ")
	d.tells(t, "READY")
	g.GW.Run(t, "iptables-legacy", "-F", "FORWARD")
	d.logs(t, "put ")
	d.stops(t, 15)
	t.Log(d.said())
	run("delete")
	mods()
	t.Log(difference(g.rules, g.ruleset(t)), difference(g.sysctl, g.sysctls(t)))
	t.Error("end")
}
