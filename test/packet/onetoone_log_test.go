package packet

import (
	"fmt"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Both directions are logged, each flow once; what is not let in is not.
func TestOneToOneLog(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	pool(t, topo, 10, 11)
	g := untouched(t, topo)
	listens(topo.Server, 80)
	listens(topo.LAN1, 80)
	listens(topo.LAN2, 80)
	log := g.GW.NFLog(5)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.mapped(`
  - {name: host, zone: wan, outside: "$10", inside: "$lan1", expose: tcp, log: {group: 5}}
  - {name: quiet, zone: wan, outside: "$11", inside: "$lan2", expose: all}
`))
		line := func(from, to string) string { return fmt.Sprintf("one_to_one host: %s > %s 80", from, to) }
		carries(t, opens(t, topo.LAN1, at(ip.outside, 80), ip.public(10)))
		said(t, g, log, line(ip.lan1, ip.outside))
		carries(t, opens(t, topo.Server, at(ip.public(10), 80), ip.outside))
		opens(t, topo.LAN2, at(ip.public(10), 80), ip.gwLAN)
		said(t, g, log, line(ip.outside, ip.lan1), line(ip.lan2, ip.lan1))
		failsUDP(t, topo.Server, at(ip.public(10), 80), lab.IsTimeout)
		opens(t, topo.Server, at(ip.public(11), 80), ip.outside)
		opens(t, topo.LAN2, at(ip.outside, 80), ip.public(11))
		said(t, g, log)
	})
	g.delete(t)
}
