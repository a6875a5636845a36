package packet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// addressFile writes the file of a set: n addresses of each family that nobody
// here has, some twice and some within a prefix of the list, and then more.
func addressFile(t *testing.T, dir, name string, n int, more ...string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("# from somebody's list\n\n")
	for i := 0; i < 2*n; i += 2 { // no two side by side: they would be one range
		v4, v6 := fmt.Sprintf("11.%d.%d.%d", i>>16, i>>8&0xff, i&0xff), fmt.Sprintf("2001:db8:bad:%x::", i)
		fmt.Fprintf(&text, "%s # %d\n%s/64\n", v4, i, v6)
		if i%64 == 0 {
			fmt.Fprintf(&text, "%s/28\n%s\n%s1\n", v4, v4, v6)
		}
	}
	for _, line := range more {
		text.WriteString("  " + line + "\t# and this\n")
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a large set of both families names is blocked, allowed, excepted and in
// a zone, by entries that use it in each way.
func TestSets(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.ISP, topo.Neighbor)
	listens(topo.LAN1, 8080)
	g := untouched(t, topo)
	addressFile(t, g.dir, "blocked.txt", 3000, lab.Neighbor, "2001:db8:113::2-2001:db8:113::5", "203.0.113.3-203.0.113.9")
	addressFile(t, g.dir, "plain.txt", 3000, "203.0.113.1/32", "2001:db8:113::1", "2001:db8:113::1/128")
	addressFile(t, g.dir, "hosts.txt", 3000, "192.168.1.0/25", "192.168.1.10", "fd00:1::/64")
	each(t, func(t *testing.T, ip family) {
		g.apply(t, `
sets:
  blocked: {file: blocked.txt}
  plain: {file: plain.txt}
  hosts: {file: hosts.txt}
zones:
  lan: {interfaces: [eth1], networks: "@hosts"}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan, except_destinations: "@plain"}
`+ip.forwards(`  - {name: all, from: wan, protocol: tcp, ports: 80, to: "$lan1:8080", except_sources: "@blocked"}
  - {name: some, from: wan, protocol: tcp, ports: 81, to: "$lan1:8080", sources: "@blocked"}
`)+`
forward:
  rules:
    - {name: blocked, from: lan, destinations: "@blocked", action: drop}
    - {name: plain, from: lan, to: wan, destinations: "@plain", action: accept}
`)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.isp, 80), ip.lan1) // excepted
		fails(t, g.LAN1, at(ip.neighbor, 80), lab.IsTimeout)
		failsUDP(t, g.LAN1, at(ip.neighbor, 53), lab.IsTimeout)
		lands(t, "tcp", g.Server, at(ip.uplink, 80), at(ip.lan1, 8080), "")
		lands(t, "tcp", g.Neighbor, at(ip.uplink, 81), at(ip.lan1, 8080), "")
		fails(t, g.Neighbor, at(ip.uplink, 80), lab.IsRefused)
		fails(t, g.Server, at(ip.uplink, 81), lab.IsRefused)
		if n := g.entry(t, "forward blocked").RefusedPackets; n < 2 {
			t.Errorf("%d packets counted", n)
		}
	})
	// One line less: that address alone is not blocked any more.
	addressFile(t, g.dir, "blocked.txt", 3000, "2001:db8:113::4-2001:db8:113::5", "203.0.113.4-203.0.113.9")
	g.ipmasq(t, 0, "apply", filepath.Join(g.dir, "policy.yaml"))
	each(t, func(t *testing.T, ip family) { opens(t, g.LAN1, at(ip.neighbor, 80), ip.uplink) })
	g.delete(t)
}
