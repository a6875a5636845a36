package packet

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A map inline and the same map from a file do the same.
func TestPortForwardMap(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 8002, 9000, 9004, 9010, 7500, 7510)
	listens(topo.LAN2, 80, 7000)
	each(t, func(t *testing.T, ip family) {
		lines := [][2]string{
			{"tcp/8001", "$lan1:80"},
			{"tcp/8002", "$lan1"},
			{"udp/8001", "$lan2:80"},
			{"udp/9000-9010", "$lan1"},
			{"tcp/9500-9510", "$lan1:7500-7510"},
			{"tcp/9600-9699", "$lan2:7000"},
		}
		var inline, file strings.Builder
		for _, l := range lines {
			fmt.Fprintf(&inline, "      %s: %q\n", l[0], l[1])
			fmt.Fprintf(&file, "%s  %s # a comment\n", l[0], strings.NewReplacer("$lan1", bracketed(ip.lan1), "$lan2", bracketed(ip.lan2)).Replace(l[1]))
		}
		if err := os.WriteFile(filepath.Join(g.dir, "vms.txt"), []byte("# all of them\n\n"+file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, policy := range []string{
			"  - from: wan\n    map:\n" + inline.String(),
			"  - {from: wan, map: {file: vms.txt}}\n",
		} {
			g.apply(t, zones+ip.forwards(policy))
			for _, c := range []struct {
				proto  string
				port   int
				target string
			}{
				{"tcp", 8001, at(ip.lan1, 80)}, {"tcp", 8002, at(ip.lan1, 8002)}, {"udp", 8001, at(ip.lan2, 80)},
				{"udp", 9000, at(ip.lan1, 9000)}, {"udp", 9004, at(ip.lan1, 9004)}, {"udp", 9010, at(ip.lan1, 9010)},
				{"tcp", 9500, at(ip.lan1, 7500)}, {"tcp", 9510, at(ip.lan1, 7510)},
				{"tcp", 9600, at(ip.lan2, 7000)}, {"tcp", 9650, at(ip.lan2, 7000)}, {"tcp", 9699, at(ip.lan2, 7000)},
			} {
				lands(t, c.proto, topo.Neighbor, at(ip.uplink, c.port), c.target, "")
				lands(t, c.proto, topo.DMZ, at(ip.uplink, c.port), c.target, "")
			}
			for _, port := range []int{9000, 9011, 9511, 9700} {
				fails(t, topo.Neighbor, at(ip.uplink, port), lab.IsRefused)
			}
			failsUDP(t, topo.Neighbor, at(ip.uplink, 8002), lab.IsRefused)
		}
	})
	g.delete(t)
}

// A thousand forwards in one entry, each to a target of its own: every one is
// looked up, and none is mistaken for its neighbour.
func TestPortForwardLargeMap(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	const first, count, step = 10000, 1000, 37 // step and count have no common factor
	target := func(i int) int { return 30000 + i*step%count }
	each(t, func(t *testing.T, ip family) {
		var file strings.Builder
		for i := range count {
			fmt.Fprintf(&file, "tcp/%d %s\n", first+i, at(ip.lan1, target(i)))
		}
		if err := os.WriteFile(filepath.Join(g.dir, "vms.txt"), []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		g.apply(t, zones+ip.forwards("  - {name: vms, from: wan, map: {file: vms.txt}}\n"))
		chosen := append(rand.Perm(count)[:20], 0, count-1)
		served := map[int]bool{}
		for _, i := range chosen {
			if !served[i] {
				served[i] = true
				defer topo.LAN1.ServeTCP(at(ip.lan1, target(i))).Close()
			}
			lands(t, "tcp", topo.Server, at(ip.uplink, first+i), at(ip.lan1, target(i)), "")
		}
		fails(t, topo.Server, at(ip.uplink, first-1), lab.IsRefused)
		fails(t, topo.Server, at(ip.uplink, first+count), lab.IsRefused)
		if n := g.entry(t, "port_forward vms").NewFlows; n != uint64(len(chosen)) {
			t.Errorf("status counts %d new flows, want %d", n, len(chosen))
		}
	})
	g.delete(t)
}
