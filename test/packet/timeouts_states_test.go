package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// soon waits until a connection lives as long as the state says that it must
// come to.
func (g *gateway) soon(t *testing.T, ip family, port int, want time.Duration) {
	t.Helper()
	for until := time.Now().Add(lab.Patience); time.Now().Before(until); g.Settle() {
		if left := g.left(t, protoTCP, ip.lan1, ip.outside, port); left <= want && left > want-15*time.Second {
			return
		}
	}
	g.lives(t, protoTCP, ip.lan1, ip.outside, port, want)
}

// A connection that stays in a state, since what would end it gets lost, lives
// as long as the entry says of that state.
func TestTimeoutsOfStates(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
masquerade:
  - {from: lan, to: wan, timeouts: {tcp: {syn_recv: 200s, fin_wait: 300s}}}
`)
	lost := func(h *lab.Host, rule string) {
		h.Run(t, "nft", "add table inet lost; add chain inet lost out { type filter hook output priority 0; }; add rule inet lost out "+rule+" drop")
	}
	each(t, func(t *testing.T, ip family) {
		closing := opens(t, g.LAN1, at(ip.outside, 25), ip.uplink)
		if closing == nil {
			return
		}
		lost(g.Server, "tcp sport 25")
		lost(g.LAN1, "tcp dport 80 tcp flags & syn == 0")
		if err := closing.CloseWrite(); err != nil {
			t.Error(err)
		}
		g.soon(t, ip, 25, 300*time.Second) // at once: it does not stay in that state for ever
		half, err := g.LAN1.DialTCP(lab.Patience, at(ip.outside, 80), lab.NoGreeting())
		if err != nil {
			t.Fatal(err)
		}
		defer half.Close()
		g.soon(t, ip, 80, 200*time.Second)
		for _, h := range []*lab.Host{g.Server, g.LAN1} {
			h.Run(t, "nft", "delete", "table", "inet", "lost")
		}
	})
	g.delete(t)
}
