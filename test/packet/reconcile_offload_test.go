//go:build vm

package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A flow that passes the rules no more is cut within a second: the flowtable
// lets go of it when it next looks.
func TestVMReconcileOffloaded(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		policy := calm + ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n") +
			"gateway: {offload: {zones: [lan, wan]}}\n"
		r := reconciling(t, ip, "")
		r.apply(t, policy)
		r.hold(t)
		r.LAN1.ServeUDP(":80")
		r.LAN2.ServeUDP(":80")
		u := socket(t, r.Neighbor, at(ip.uplink, 8080))
		for range 5 {
			answered(t, u, at(ip.lan1, 80))
		}
		r.offloads(t, ip, "udp")
		r.changes(t, strings.Replace(policy, bracketed(ip.lan1)+":80", bracketed(ip.lan2)+":80", 1),
			map[string]int{"port_forward game: would go to " + at(ip.lan2, 80): 1})
		if !within(func() bool {
			seen, err := u.Exchange(lab.Silence, "again")
			return err == nil && seen.Local.String() == at(ip.lan2, 80)
		}) {
			t.Error("the flow goes on in the flowtable")
		}
	})
}
