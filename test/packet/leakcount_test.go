package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A packet that no connection knows is stopped in forward already. It is a leak
// that was stopped all the same, and status counts it for the entry that would
// have translated it.
func TestInvalidCountsAsLeak(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {name: web, from: lan, to: wan, protocol: tcp, ports: 443}
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		reset := func(port uint16) []byte {
			return lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 999, DstPort: port, Flags: lab.RST}.Bytes()
		}
		before := g.entry(t, "masquerade web").LeaksStopped
		topo.LAN1.SendPacket("eth0", reset(443), reset(443), reset(80)) // the last is of no entry
		topo.Settle()
		if got := g.entry(t, "masquerade web").LeaksStopped - before; got != 2 {
			t.Errorf("%d leaks stopped, want 2", got)
		}
	})
	leaks.none(t)
	g.delete(t)
}
