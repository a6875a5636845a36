//go:build vm

package packet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

// homeRouter names no backend.
const homeRouter = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0], mss_clamp: pmtu}
sets:
  friends: [198.51.100.0/28, "2001:db8:100::/112", 192.0.2.1, 192.0.2.3, 192.0.2.5, 192.0.2.7, 192.0.2.9, 192.0.2.11, 192.0.2.13, 192.0.2.15]
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:8081", "[fd00:1::10]:8081"], hairpin: true}
  - {name: ssh, from: wan, protocol: tcp, ports: 2222, to: ["192.168.1.10:22", "[fd00:1::10]:22"], sources: "@friends"}
  - {name: strangers, from: wan, protocol: tcp, ports: 2223, to: ["192.168.1.10:22", "[fd00:1::10]:22"], except_sources: "@friends"}
  - {name: late, from: wan, protocol: tcp, ports: 8000-8010, to: "192.168.1.10:9000-9010", max_connections: {per_host: 20}, log: {prefix: "late "}}
forward:
  rules:
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
`

// automatic is a gateway that says nothing of a backend, on a kernel that has
// iptables-legacy alone.
func automatic(t *testing.T) *gateway {
	t.Helper()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	g := &gateway{Topology: topo, dir: topo.Dir(), program: built.Ipmasq(t), variant: "iptables-legacy"}
	g.file(t, "policy.yaml", homeRouter)
	g.rules, g.sysctl = g.ruleset(t), g.sysctls(t)
	return g
}

// says runs the program, and gives what it printed to stderr, then to stdout.
func (g *gateway) says(t *testing.T, code int, command string, args ...string) (stderr, stdout string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*lab.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, g.program, slices.Concat(strings.Fields(command), []string{"--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args)...)
	var out, problem strings.Builder
	c.Stdout, c.Stderr = &out, &problem
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || c.ProcessState.ExitCode() != code {
		t.Errorf("ipmasq %s: %v, want exit code %d\n%s%s", command, err, code, &out, &problem)
	}
	return problem.String(), out.String()
}

// expects runs a command, and looks for words in what it prints.
func (g *gateway) expects(t *testing.T, code int, command string, args []string, words ...string) {
	t.Helper()
	stderr, stdout := g.says(t, code, command, args...)
	for _, w := range words {
		if !strings.Contains(stderr+stdout, w) {
			t.Errorf("ipmasq %s does not say %q:\n%s%s", command, w, stdout, stderr)
		}
	}
}

const autoSaid = "ipmasq: warning: gateway.backend: auto is iptables-legacy here: nftables (CONFIG_NF_TABLES): not supported by this kernel"

// On a kernel without nf_tables a policy that names no backend is one for
// iptables-legacy, which is said, and all commands know it. That what the host
// calls iptables is the nft variant, as on Debian, is no hindrance.
func TestVMAuto(t *testing.T) {
	if loaded, err := os.ReadFile("/proc/modules"); err != nil || strings.Contains(string(loaded), "nf_tables") {
		t.Fatalf("this kernel is to have no nf_tables: %v\n%s", err, loaded)
	}
	for _, sets := range []bool{true, false} {
		t.Run(fmt.Sprintf("ip_set %v", sets), func(t *testing.T) {
			if !sets {
				lacks(t, "ip_set")
			}
			g := automatic(t)
			answering(g.Server, g.LAN1)
			listens(g.LAN1, 8081, 9003)
			file := []string{filepath.Join(g.dir, "policy.yaml")}
			g.expects(t, 2, "plan", file, autoSaid, "iptables-legacy (IPMASQ-*): ")
			g.expects(t, 0, "apply", file, autoSaid, "applied and read back")
			g.expects(t, 0, "plan", file, autoSaid, "no difference: ")
			g.expects(t, 0, "apply", file, "nothing changed: ")
			g.expects(t, 0, "doctor", nil, "nothing is wrong with the rules in iptables-legacy")
			g.routes(t)
			g.expects(t, 0, "status", nil, "iptables-legacy, chains IPMASQ-* are in force, as applied")
			if !sets {
				g.expects(t, 0, "delete", nil, "removed iptables-legacy (IPMASQ-*): ")
				g.leaves(t)
				return
			}
			g.expects(t, 0, "connections list", nil, "masquerade lan-wan", "port_forward web")
			g.expects(t, 0, "explain", []string{"--from", "wan", "--source", lab.Outside, "--destination", lab.GatewayUplink, "--protocol", "tcp", "--port", "80"},
				"PASSES by port_forward web", "192.168.1.10:8081")
			g.expects(t, 1, "explain", []string{"--live", "--from", "lan", "--source", lab.LAN1, "--destination", lab.Outside, "--protocol", "tcp", "--port", "80"},
				"error: ", "not supported by this kernel: nftables (CONFIG_NF_TABLES), by which packets are traced")

			// Another policy, and back.
			other := g.file(t, "other.yaml", strings.ReplaceAll(homeRouter, "8081", "9003"))
			g.expects(t, 0, "apply", []string{other}, "applied and read back")
			lands(t, "tcp", g.Server, at(lab.GatewayUplinkv6, 80), at(lab.LAN1v6, 9003), "")
			g.expects(t, 0, "rollback", nil)
			lands(t, "tcp", g.Server, at(lab.GatewayUplinkv6, 80), at(lab.LAN1v6, 8081), "")

			// The daemon sees what others do.
			d := g.runs(t, file...)
			d.logs(t, autoSaid)
			d.tells(t, "READY=1")
			g.GW.Run(t, "iptables-legacy", "-F", "FORWARD")
			d.logs(t, "another program changed the chains of ipmasq in iptables-legacy", "put right")
			d.stops(t, syscall.SIGTERM)
			g.routes(t)
			g.expects(t, 0, "delete", nil, "removed iptables-legacy (IPMASQ-*): ")
			g.leaves(t)
		})
	}
}

// routes sees that the home router works in both families, and lets nothing pass
// that it must not.
func (g *gateway) routes(t *testing.T) {
	t.Helper()
	inside := g.Server.Capture("eth0", lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/16")))
	defer inside.Stop()
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		asks(t, g.LAN2, at(ip.outside, 53), ip.uplink)
		pings(t, g.LAN1, ip.outside)
		fails(t, g.LAN1, at(ip.outside, 25), lab.IsRefused)
		lands(t, "tcp", g.Server, at(ip.uplink, 80), at(ip.lan1, 8081), "")
		lands(t, "tcp", g.LAN2, at(ip.uplink, 80), at(ip.lan1, 8081), ip.gwLAN)
		lands(t, "tcp", g.Server, at(ip.uplink, 2222), at(ip.lan1, 22), "")
		if !ip.v6() {
			lands(t, "tcp", g.Server, at(ip.uplink, 8003), at(ip.lan1, 9003), "")
		}
		together(
			tcp(g.Server, ip.lan1, 8081).drops(t),
			func() { fails(t, g.Server, at(ip.uplink, 2223), lab.IsRefused) },
		)
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 4000, DstPort: 80, Flags: lab.RST, Seq: 1000}.Bytes())
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink) // later over the same link
	})
	if inside.Sync(); inside.Count() != 0 {
		t.Errorf("left untranslated: %v", inside)
	}
}

// leaves sees that all is as before the first apply.
func (g *gateway) leaves(t *testing.T) {
	t.Helper()
	if left := g.ruleset(t); left != g.rules {
		t.Errorf("rules are left\n%s", difference(g.rules, left))
	}
	if left := g.sysctls(t); left != g.sysctl {
		t.Errorf("sysctls are left\n%s", difference(g.sysctl, left))
	}
	_, text := g.says(t, 0, "status", "-o", "json")
	var status struct {
		InForce bool `json:"in_force"`
		Policy  *struct{}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || status.InForce || status.Policy != nil {
		t.Errorf("status says %v\n%s", err, text)
	}
}
