package packet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

const offloaded = zones + `
masquerade:
  - {from: lan, to: wan}
gateway:
  offload: {zones: [lan, wan]}
`

// watch counts what comes by in forward.
const watch = `
table inet strict {
	counter passed { }
	chain forward {
		type filter hook forward priority -10
		meta l4proto { tcp, udp } counter name passed
	}
}
`

// offloads waits until the gateway's conntrack says that a flow is offloaded.
func (g *gateway) offloads(t *testing.T, ip family, protocol string) {
	t.Helper()
	for until := time.Now().Add(lab.Patience); ; g.Settle() {
		var table []byte
		err := g.GW.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/nf_conntrack")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			if strings.HasPrefix(line, strings.ToLower(ip.name)) && strings.Contains(line, " "+protocol+" ") && strings.Contains(line, "[OFFLOAD]") {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("no flow of %s is offloaded\n%s", protocol, table)
		}
	}
}

// Open flows pass the rules no more, and are translated as before. A kernel
// that has no flowtables says so before anything is changed, and so does
// iptables.
func TestOffload(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	topo.GW.Feed(t, watch, "nft", "-f", "-")
	g := untouched(t, topo)
	switch {
	case g.variant != "":
		g.refusesOffload(t, 3, "iptables cannot offload flows")
		return
	case !g.GW.HasFlowtables():
		g.refusesOffload(t, 1, "CONFIG_NF_FLOW_TABLE_INET")
		return
	}
	g.apply(t, offloaded)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		carries(t, c)
		u, err := g.LAN1.DialUDP(at(ip.outside, 53))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // the kernel takes what was answered and goes on
			if seen, err := u.Exchange(lab.Patience, "again"); err != nil || seen.Peer.Addr().String() != ip.uplink {
				t.Errorf("the server saw %v, %v", seen, err)
			}
		}
		g.offloads(t, ip, "tcp")
		g.offloads(t, ip, "udp")
		before := g.counted(t, "passed")
		if c != nil {
			if err := c.Echo(lab.Patience, strings.Repeat("there and back, ", 1<<16)); err != nil {
				t.Error(err)
			}
		}
		if seen, err := u.Exchange(lab.Patience, "again"); err != nil || seen.Peer.Addr().String() != ip.uplink {
			t.Errorf("the server saw %v, %v", seen, err)
		}
		if after := g.counted(t, "passed"); after != before {
			t.Errorf("%d packets of offloaded flows came by in forward", after-before)
		}
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink).Abort()
		fails(t, g.DMZ, at(ip.outside, 80), lab.IsTimeout) // and what is forbidden stays so
		g.apply(t, offloaded+"  forwarding: {ipv4: true, ipv6: true}\n")
		carries(t, c)
	})
	leaks.none(t)
	g.delete(t)
}

func (g *gateway) refusesOffload(t *testing.T, code int, why string) {
	t.Helper()
	file := filepath.Join(g.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"+offloaded), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"plan", "apply"} {
		var out strings.Builder
		c := exec.Command(g.program, command, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state", file)
		c.Stderr = &out
		err := c.Run()
		for _, want := range []string{file + ":11:12: gateway offload: ", why} {
			if c.ProcessState == nil || c.ProcessState.ExitCode() != code || !strings.Contains(out.String(), want) {
				t.Errorf("%s: %v, and it does not say %q:\n%s", command, err, want, &out)
			}
		}
	}
	if now := g.ruleset(t); now != g.rules {
		t.Errorf("rules have changed\n%s", difference(g.rules, now))
	}
	if now := g.sysctls(t); now != g.sysctl {
		t.Errorf("sysctls have changed\n%s", difference(g.sysctl, now))
	}
}

// Flows that were offloaded as they are come back to the rules with a policy
// that translates them, and then to the guard.
func TestOffloadOlderFlows(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	const before = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
gateway:
  offload: {zones: [lan, wan]}
forward:
  rules:
    - {from: lan, to: wan, action: accept}
`
	g := untouched(t, topo)
	if g.variant != "" || !g.GW.HasFlowtables() {
		return // TestOffload sees to that
	}
	g.apply(t, before)
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.lan1)
		carries(t, c)
		u, err := g.LAN1.DialUDP(at(ip.outside, 53))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := u.Exchange(lab.Patience, "again"); err != nil {
				t.Error(err)
			}
		}
		g.offloads(t, ip, "tcp")
		g.offloads(t, ip, "udp")
		g.apply(t, before+"masquerade:\n  - {from: lan, to: wan}\n")
		leaks := g.leaks(t)
		for range 3 {
			// It is cut, and begins anew as the policy has it.
			if _, err := u.Exchange(lab.Patience, "again"); err != nil {
				t.Errorf("a datagram of before: %v", err)
			}
		}
		if c != nil {
			_ = c.Echo(lab.Silence, "a connection of before")
		}
		leaks.none(t)
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
		g.apply(t, before)
	})
	g.delete(t)
}
