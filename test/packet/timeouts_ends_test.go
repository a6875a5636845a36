package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// How long the rest of a connection stays is the entry's to say, and of what has
// no states the gateway's.
func TestTimeoutsOfEnds(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
masquerade:
  - {from: lan, to: wan, timeouts: {tcp: {time_wait: 200s, close: 300s}}}
gateway:
  conntrack: {timeouts: {generic: 400s}}
`)
	each(t, func(t *testing.T, ip family) {
		g.ends(t, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
		g.lives(t, protoTCP, ip.lan1, ip.outside, 80, 200*time.Second)
		if c := opens(t, g.LAN1, at(ip.outside, 22), ip.uplink); c != nil {
			if err := c.Abort(); err != nil {
				t.Error(err)
			}
			g.Settle()
			g.lives(t, protoTCP, ip.lan1, ip.outside, 22, 300*time.Second)
		}
		g.LAN1.SendPacket("eth0", lab.Raw{Header: lab.Between(ip.lan1, ip.outside), Proto: protoESP, Payload: make([]byte, 24)}.Bytes())
		g.Settle()
		g.lives(t, protoESP, ip.lan1, ip.outside, 0, 400*time.Second)
	})
	g.delete(t)
}
