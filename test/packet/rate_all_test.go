package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A rate of all sources together is not forgotten where nobody sends: a burst
// comes again when it has filled, and not before.
func TestRateOfAllIsKept(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := applied(t, topo, zones+"forward:\n  rules:\n"+
		eachFamily("    - {name: few$n, family: $f, from: lan, to: dmz, protocol: udp, action: accept, rate: {limit: 1/second, burst: 30}}\n"))
	const burst, silence = 30, 3200 * time.Millisecond
	send := func(first uint16) (arrived [2]int) {
		for i, ip := range families() {
			came := g.DMZ.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(1000+first)))
			for port := range uint16(burst) {
				g.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.dmz), SrcPort: 2000 + first + port, DstPort: 1000 + first}.Bytes())
			}
			g.Settle()
			arrived[i] = len(came.Packets())
		}
		return arrived
	}
	if first := send(0); first != [2]int{burst, burst} {
		t.Fatalf("%v came of a first burst of %d", first, burst)
	}
	begin := time.Now()
	time.Sleep(silence) // what is forgotten is forgotten in silence
	again := send(100)
	most := int(time.Since(begin)/time.Second) + 2
	for i, n := range again {
		if n == 0 || n > most {
			t.Errorf("%s: %d came again after %s at one a second, want up to %d", families()[i].name, n, silence, most)
		}
	}
	g.delete(t)
}
