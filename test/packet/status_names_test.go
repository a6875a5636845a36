package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A rule may be called default: status tells it from what stands behind all
// rules.
func TestRuleCalledDefault(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	listens(topo.DMZ, 80)
	listens(topo.GW, 22)
	g := applied(t, topo, zones+`
forward:
  rules: [{name: default, from: lan, to: dmz, protocol: tcp, ports: 80, action: accept}]
input:
  rules: [{name: default, from: lan, protocol: tcp, ports: 22, action: accept}]
`)
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		together(udp(g.LAN1, ip.dmz, 80).drops(t), udp(g.LAN1, ip.gwLAN, 22).drops(t))
	})
	for _, section := range []string{"forward", "input"} {
		var passed, refused []uint64
		for _, e := range g.entries(t) {
			if e.Section == section && e.Name == "default" {
				passed, refused = append(passed, e.NewFlows), append(refused, e.RefusedPackets)
			}
		}
		if len(passed) != 2 || passed[0] != 2 || refused[0] != 0 || passed[1] != 0 || refused[1] < 2 {
			t.Errorf("%s: flows %d, refused packets %d", section, passed, refused)
		}
	}
	g.delete(t)
}
