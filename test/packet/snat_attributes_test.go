package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The attributes of an entry with a pool are those of any other: before its
// translation, for its flows alone.
func TestSNATAttributes(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	pool(t, topo, 40, 40)
	g := applied(t, topo, twoZones+"snat:\n"+eachFamily(`
  - name: out$n
    family: $f
    from: lan
    to: wan
    addresses: [203.0.113.40, "2001:db8:113::40"]
    max_connections: {per_host: 2, total: 3}
    timeouts: {tcp: {established: 1h}, udp: {unreplied: 200s}}
    log: {group: 5}
`))
	log := g.GW.NFLog(5)
	each(t, func(t *testing.T, ip family) {
		first := opens(t, g.LAN1, at(ip.outside, 80), ip.public(40))
		asks(t, g.LAN1, at(ip.outside, 53), ip.public(40))
		g.lives(t, protoTCP, ip.lan1, ip.outside, 80, time.Hour)
		g.lives(t, protoUDP, ip.lan1, ip.outside, 53, 200*time.Second)
		fails(t, g.LAN1, at(ip.outside, 22), lab.IsTimeout)
		other := opens(t, g.LAN2, at(ip.outside, 80), ip.public(40))
		fails(t, g.LAN2, at(ip.outside, 22), lab.IsTimeout)
		g.ends(t, first)
		again := opens(t, g.LAN2, at(ip.outside, 22), ip.public(40))
		entry := "snat out" + ip.number()
		said(t, g, log, entry+": "+ip.lan1+" > "+ip.outside+" 80", entry+": "+ip.lan1+" > "+ip.outside+" 53",
			entry+": "+ip.lan2+" > "+ip.outside+" 80", entry+": "+ip.lan2+" > "+ip.outside+" 22")
		g.limited(t, entry, 2)
		g.ends(t, other)
		g.ends(t, again)
		g.GW.Run(t, "conntrack", "-D", "-p", "udp", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[ip.v6()])
	})
	g.delete(t)
}
