package packet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A connection outlives the applies that leave its entry alone, and what the
// kernel has counted goes on from where it was.
func TestPortForwardApplyAgain(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 90)
	listens(topo.LAN2, 81, 82)
	each(t, func(t *testing.T, ip family) {
		first := zones + ip.forwards(`
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}
  - {name: range, from: wan, protocol: [tcp, udp], ports: 85-95, to: "$lan1"}
`)
		g.apply(t, first)
		flows := func(t *testing.T, name string, want uint64) {
			t.Helper()
			if n := g.entry(t, "port_forward "+name).NewFlows; n != want {
				t.Errorf("%s counts %d new flows, want %d", name, n, want)
			}
		}
		var long []*lab.Conn
		for _, port := range []int{8080, 90} {
			if c := opens(t, topo.Neighbor, at(ip.uplink, port), ip.neighbor); c != nil {
				long = append(long, c)
			}
		}
		inside := opens(t, topo.DMZ, at(ip.uplink, 8080), ip.dmz)
		if len(long) != 2 || inside == nil {
			t.FailNow()
		}
		long = append(long, inside)
		asks(t, topo.Neighbor, at(ip.uplink, 8080), ip.neighbor)
		alive := func(t *testing.T, after string) {
			t.Helper()
			for _, c := range long {
				if err := c.Echo(lab.Patience, after); err != nil {
					t.Errorf("after %s: %v", after, err)
				}
			}
		}
		alive(t, "the first apply")
		flows(t, "web", 3)
		flows(t, "range", 1)

		g.apply(t, first)
		alive(t, "the same policy")
		flows(t, "web", 3)

		// More of the same kind, of other kinds, and a rule.
		more := first + strings.TrimPrefix(ip.forwards(`
  - {name: near, from: wan, sources: "NEIGHBOR", protocol: [tcp, udp], ports: 81, to: "$lan2"}
  - {name: second, from: wan, protocol: [tcp, udp], ports: 82, to: "$lan2", masquerade: true}
  - {name: third, from: wan, protocol: tcp, ports: 2000-2010, to: "$lan1:3000-3010"}
`, "NEIGHBOR", ip.neighbor), "port_forward:\n") + "forward: {rules: [{name: ping, from: lan, to: wan, icmp_types: echo-request, action: accept}]}\n"
		g.apply(t, more)
		alive(t, "more entries")
		flows(t, "web", 3)
		flows(t, "range", 1)
		lands(t, "tcp", topo.Neighbor, at(ip.uplink, 8080), at(ip.lan1, 80), "")
		lands(t, "tcp", topo.Neighbor, at(ip.uplink, 81), at(ip.lan2, 81), "")
		lands(t, "tcp", topo.Neighbor, at(ip.uplink, 82), at(ip.lan2, 82), ip.gwLAN)
		flows(t, "web", 4)
		flows(t, "near", 1)
		flows(t, "second", 1)

		// The others go again, and one that stays moves up in the file.
		g.apply(t, zones+ip.forwards(`
  - {name: range, from: wan, protocol: [tcp, udp], ports: 85-95, to: "$lan1"}
  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: "$lan1:80"}
`))
		alive(t, "fewer entries")
		flows(t, "web", 4)
		flows(t, "range", 1)
		fails(t, topo.Neighbor, at(ip.uplink, 81), lab.IsRefused)

		// Another target: who asks from now on gets it.
		g.apply(t, strings.Replace(first, at(ip.lan1, 80), at(ip.lan2, 82), 1))
		lands(t, "tcp", topo.Neighbor, at(ip.uplink, 8080), at(ip.lan2, 82), "")
		lands(t, "udp", topo.Neighbor, at(ip.uplink, 8080), at(ip.lan2, 82), "")
		for _, c := range long {
			c.Abort()
		}
	})
	g.delete(t)
}

// Deleting takes the forwards away, and the connections that they made with
// them: what the client sends then reaches nobody untranslated.
func TestPortForwardDelete(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	topo.LAN1.ServeTCP(":80")
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards("  - {from: wan, protocol: tcp, ports: 8080, to: \"$lan1:80\"}\n"))
		c := opens(t, topo.Neighbor, at(ip.uplink, 8080), ip.neighbor)
		if c == nil {
			return
		}
		leak := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.SrcIn(ip.lanNet)))
		g.delete(t)
		if err := c.Echo(lab.Silence, "still there?"); err == nil {
			t.Error("the connection outlived delete")
		}
		fails(t, topo.Neighbor, at(ip.uplink, 8080), lab.IsRefused)
		leak.Sync()
		if leak.Count() != 0 {
			t.Errorf("left with an inside address: %v", leak)
		}
	})
}

// What cannot both be meant is refused, with both places, and the kernel keeps
// what it had.
func TestPortForwardConflict(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	topo.LAN1.ServeTCP(":80")
	g.apply(t, zones+`port_forward: [{name: web, from: wan, protocol: tcp, ports: 8080, to: "192.168.1.10:80"}]`+"\n")
	before := g.ruleset(t)
	for name, entries := range map[string][2]string{
		"the same port": {
			`{name: a, from: wan, protocol: tcp, ports: 8080, to: "192.168.1.10:80"}`,
			`{name: b, from: wan, protocol: tcp, ports: 8080, to: "192.168.1.11:80"}`,
		},
		"part of a range": {
			`{name: a, from: wan, protocol: [tcp, udp], ports: 8000-8100, to: "192.168.1.10"}`,
			`{name: b, from: wan, protocol: udp, ports: 8090-8200, to: "192.168.1.11"}`,
		},
		"sources that an earlier entry has": {
			`{name: a, from: wan, sources: 203.0.113.0/24, protocol: tcp, ports: 80-90, to: "192.168.1.10"}`,
			`{name: b, from: wan, sources: 203.0.113.3, protocol: tcp, ports: 85, to: "192.168.1.11"}`,
		},
		"a map": {
			`{name: a, from: wan, protocol: tcp, ports: 8000-8100, to: "192.168.1.10"}`,
			`{name: b, from: wan, map: {udp/8050: "192.168.1.11", tcp/8050: "192.168.1.11"}}`,
		},
		"another source for the same path": {
			`{name: a, from: wan, address: 203.0.113.5, protocol: tcp, ports: 80, to: "192.168.1.10", masquerade: true}`,
			`{name: b, from: wan, address: 203.0.113.2, protocol: [tcp, udp], ports: 75-85, to: "192.168.1.10"}`,
		},
		"behind all": {
			`{name: a, from: wan, protocol: tcp, ports: all, to: "192.168.1.10"}`,
			`{name: b, from: wan, protocol: tcp, ports: 80, to: "192.168.1.11"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.yaml")
			text := "version: 1" + zones + "port_forward:\n  - " + entries[0] + "\n  - " + entries[1] + "\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{
				{"check", file}, {"apply", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state", file},
			} {
				c := exec.Command(g.program, args...)
				out, _ := c.CombinedOutput()
				if code := c.ProcessState.ExitCode(); code != 3 {
					t.Errorf("%s: exit code %d, want 3\n%s", args[0], code, out)
				}
				for _, place := range []string{":7:", ":8:"} {
					if !strings.Contains(string(out), file+place) {
						t.Errorf("%s does not show the entry at %s\n%s", args[0], place, out)
					}
				}
			}
		})
	}
	if now := g.ruleset(t); now != before {
		t.Errorf("a refused policy changed the rules\n%s", difference(before, now))
	}
	lands(t, "tcp", topo.Neighbor, at(lab.GatewayUplink, 8080), at(lab.LAN1, 80), "")
	g.delete(t)
}
