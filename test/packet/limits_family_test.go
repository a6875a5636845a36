package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// eachFamily writes a line of a policy once for each family: $f is its name, and
// $n ends names.
func eachFamily(line string) string {
	return strings.NewReplacer("$f", "ipv4", "$n", "4").Replace(line) + strings.NewReplacer("$f", "ipv6", "$n", "6").Replace(line)
}

// number ends the names of eachFamily.
func (f family) number() string { return strings.TrimPrefix(f.name, "IPv") }

// An entry of one family may have a limit of all hosts with every backend: of
// all its ports, and behind a synproxy.
func TestLimitOfOneFamily(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	answering(topo.DMZ)
	g := applied(t, topo, zones+"forward:\n  rules:\n"+
		eachFamily("    - {name: few$n, family: $f, from: lan, to: dmz, protocol: tcp, ports: [22, 80], action: accept, max_connections: {total: 2}}\n")+
		eachFamily("    - {name: web$n, family: $f, from: wan, to: dmz, protocol: tcp, ports: 80, action: accept, synproxy: true, max_connections: {per_host: 1, total: 2}}\n"))
	each(t, func(t *testing.T, ip family) {
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		last := opens(t, g.LAN2, at(ip.dmz, 22), ip.lan2)
		fails(t, g.LAN1, at(ip.dmz, 22), lab.IsTimeout)
		g.limited(t, "forward few"+ip.number(), 1)
		g.ends(t, last)
		opens(t, g.LAN1, at(ip.dmz, 22), ip.lan1)

		carries(t, opens(t, g.Server, at(ip.dmz, 80), ip.outside))
		waits(t, g.Server, at(ip.dmz, 80))
		carries(t, opens(t, g.Neighbor, at(ip.dmz, 80), ip.neighbor))
	})
	g.delete(t)
}

// An entry may leave out more than fits in one rule of iptables.
func TestExceptMany(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	answering(topo.Server, topo.DMZ)
	var banned []string
	for i := range 60 {
		banned = append(banned, fmt.Sprintf("192.168.1.%d", 100+2*i), fmt.Sprintf(`"fd00:1::1:%x"`, 100+2*i))
	}
	g := applied(t, topo, zones+strings.ReplaceAll(`
masquerade:
  - {name: most, from: lan, to: wan, except_sources: [$banned]}
forward:
  rules:
    - {name: most, from: lan, to: dmz, except_sources: [$banned], protocol: tcp, ports: 80, action: accept}
    - {name: rest, from: lan, to: dmz, protocol: tcp, action: reject}
`, "$banned", strings.Join(banned, ", ")))
	each(t, func(t *testing.T, ip family) {
		out, in := "192.168.1.218", "192.168.1.219"
		length := "/24"
		if ip.v6() {
			out, in, length = "fd00:1::1:da", "fd00:1::1:db", "/64"
		}
		topo.LAN1.Addr("eth0", out+length, in+length)
		opens(t, g.LAN1, at(ip.dmz, 80), in, lab.From(in))
		fails(t, g.LAN1, at(ip.dmz, 80), lab.IsRefused, lab.From(out))
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink, lab.From(in))
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout, lab.From(out))
	})
	g.delete(t)
}
