package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A mark chooses the uplink of a flow, from its first packet on. The first rule
// that matches decides, one without a mark too.
func TestMarkRoutes(t *testing.T) {
	for name, c := range map[string]struct {
		names lab.Names
		wan   string
	}{
		"two interfaces": {lab.Names{}, "[eth0, eth3]"},
		"a wildcard":     {lab.Names{Uplink: "up-a", Uplink2: "up-b"}, `"up-*"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest(), lab.Interfaces(c.names))
			answering(topo.Server)
			g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: `+c.wan+`}
masquerade:
  - {from: lan, to: wan}
forward:
  rules:
    - {name: plain, from: lan, to: wan, sources: [192.168.1.11, "fd00:1::11"], action: accept}
    - {name: web, from: lan, to: wan, protocol: tcp, ports: [80, 81], action: accept, mark: 0x10/0xf0}
    - {name: names, from: lan, to: wan, protocol: udp, ports: 53, destinations: [198.51.100.0/24, "2001:db8:100::/64"], action: accept, mark: 0x10/0xf0}
    - {name: echo, from: lan, to: wan, protocol: [icmp, icmpv6], action: accept, mark: 0x20/0xf0}
`)
			leaks := g.leaks(t, topo.Names.Uplink, topo.Names.Uplink2)
			each(t, func(t *testing.T, ip family) {
				version, next := "-4", lab.ISP2
				if ip.v6() {
					version, next = "-6", lab.ISP2v6
				}
				g.GW.Run(t, "ip", version, "rule", "add", "fwmark", "0x10/0xf0", "table", "100")
				g.GW.Run(t, "ip", version, "route", "add", "default", "via", next, "table", "100")
				first := g.ISP.Capture("eth0", lab.All(lab.Incoming, lab.Any(lab.DstPort(80), lab.DstPort(53))))
				c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink2)
				carries(t, c)
				asks(t, g.LAN1, at(ip.outside, 53), ip.uplink2)
				g.Settle()
				if first.Count() != 0 {
					t.Errorf("the first uplink carried\n%s", first)
				}
				opens(t, g.LAN1, at(ip.outside, 22), ip.uplink)
				asks(t, g.LAN1, at(ip.outside, 123), ip.uplink)
				opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
				pings(t, g.LAN1, ip.outside) // its mark leads nowhere else
				carries(t, c)
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}

// strict is somebody else's firewall: it lets pass what bears a bit, and counts
// which marks there are.
const strict = `
table inet strict {
	counter passed { }
	counter kept { }
	counter answers { }
	counter gateway { }
	counter late { }
	chain before {
		type filter hook prerouting priority -200
		meta mark set 0xab00
	}
	chain behind {
		type filter hook prerouting priority -80
		ct direction reply meta mark & 0xff != 0 counter name answers
		fib daddr type local meta mark & 0xff != 0 counter name gateway
	}
	chain forward {
		type filter hook forward priority 10; policy drop;
		ct direction reply accept
		meta mark 0xab01 counter name kept
		ct state established meta mark & 0xff == 1 counter name late
		meta mark & 0xff == 1 counter name passed accept
	}
}
`

// counted reads a counter of the strict firewall.
func (g *gateway) counted(t *testing.T, name string) (packets int) {
	t.Helper()
	out := g.GW.Run(t, "nft", "list", "counter", "inet", "strict", name)
	_, text, _ := strings.Cut(out, "packets ")
	if _, err := fmt.Sscan(text, &packets); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return packets
}

// A mark opens another firewall's bypass, behind a port forward too, and takes
// no bits that are not its own. Answers have none, nor has what is meant for
// the gateway.
func TestMarkBypass(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ, topo.GW)
	topo.DMZ.ServeTCP(":8080")
	topo.GW.Feed(t, strict, "nft", "-f", "-")
	g := applied(t, topo, zones+`
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.2.10:8080"]}
  - {name: web6, from: wan, protocol: tcp, ports: 80, to: ["[fd00:2::10]:8080"]}
  - {name: mail, from: wan, protocol: tcp, ports: 25, to: ["192.168.2.10"]}
  - {name: mail6, from: wan, protocol: tcp, ports: 25, to: ["fd00:2::10"]}
forward:
  rules:
    - {name: out, from: lan, to: wan, protocol: tcp, ports: 80, action: accept, mark: 0x1/0xff}
    - {name: web, from: wan, to: dmz, protocol: tcp, ports: 8080, action: accept, mark: 0x1/0xff}
    - {name: all, from: lan, protocol: tcp, action: accept, mark: 0x1/0xff}
`)
	each(t, func(t *testing.T, ip family) {
		carries(t, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
		carries(t, opens(t, g.Server, at(ip.uplink, 80), ip.outside))
		fails(t, g.Server, at(ip.uplink, 25), lab.IsTimeout)
		failsUDP(t, g.LAN1, at(ip.outside, 53), lab.IsTimeout)
		opens(t, g.LAN1, at(ip.dmz, 22), ip.lan1)
		opens(t, g.LAN1, at(ip.gwLAN, 80), ip.lan1)
	})
	// Packets go on coming while counters are read.
	passed, kept, late := g.counted(t, "passed"), g.counted(t, "kept"), g.counted(t, "late")
	if again := g.counted(t, "passed"); passed == 0 || kept < passed || kept > again || late == 0 {
		t.Errorf("of %d to %d packets with the mark %d have the other bits too; %d are of open flows", passed, again, kept, late)
	}
	for _, name := range []string{"answers", "gateway"} {
		if n := g.counted(t, name); n != 0 {
			t.Errorf("%s: %d packets have the mark", name, n)
		}
	}
	g.delete(t)
}
