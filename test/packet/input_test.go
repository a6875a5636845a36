package packet

import (
	"fmt"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What reaches the gateway's own ports: by rules, then by the default. What it
// asked for itself comes back; what comes from no zone is left alone.
func TestInput(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	answering(topo.GW, topo.Server)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		rules := fmt.Sprintf(`
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, sources: %q, action: accept}
    - {name: dns, from: [lan, dmz], protocol: [tcp, udp], ports: 53, action: accept}
    - {name: ping, from: lan, icmp_types: echo-request, action: accept}
    - {name: shut, from: lan, protocol: tcp, ports: 25, action: drop}
    - {name: told, from: lan, protocol: tcp, ports: 81, action: reject}
    - {name: low, from: wan, protocol: tcp, source_ports: 1-1023, ports: 22, except_destinations: %q, action: accept}
`, ip.lan1, ip.uplink2)
		tried := func(t *testing.T) {
			tcp(g.LAN1, ip.gwLAN, 22).sees(t, ip.lan1)
			tcp(g.LAN1, ip.uplink, 22).sees(t, ip.lan1)
			udp(g.LAN2, ip.gwLAN, 53).sees(t, ip.lan2)
			udp(g.DMZ, ip.gwDMZ, 53).sees(t, ip.dmz)
			ping(g.LAN1, ip.gwLAN).sees(t, "")
			if c := opens(t, g.Neighbor, at(ip.uplink, 22), ip.neighbor, lab.From(":900")); c != nil {
				_ = c.Abort() // its port is wanted again
			}
			together(tcp(g.LAN1, ip.gwLAN, 25).drops(t), func() { fails(t, g.LAN1, at(ip.gwLAN, 81), lab.IsRefused) })

			gwGuest := map[bool]string{false: lab.GatewayGuest, true: lab.GatewayGuestv6}[ip.v6()]
			tcp(g.Guest, gwGuest, 25).sees(t, ip.guest)
			ping(g.Guest, gwGuest).sees(t, "")

			// Its own: connections, answers, errors, loopback.
			tcp(g.GW, ip.outside, 80).sees(t, ip.uplink)
			udp(g.GW, ip.outside, 53).sees(t, ip.uplink)
			ping(g.GW, ip.outside).sees(t, "")
			fails(t, g.GW, at(ip.outside, 4444), lab.IsRefused)
			failsUDP(t, g.GW, at(ip.outside, 4444), lab.IsRefused)
			if r, err := g.GW.Ping(ip.outside, lab.Patience, lab.PingOptions{TTL: 1}); err != nil || !r.TimeExceeded() {
				t.Errorf("a ping with ttl 1: %v, %v", r, err)
			}
			tcp(g.GW, map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()], 25).sees(t, map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()])
			tcp(g.GW, ip.gwLAN, 25).sees(t, ip.gwLAN)
		}
		g.apply(t, zones+"input:\n  default: drop"+rules)
		ssh, shut, rest := g.entry(t, "input ssh").NewFlows, g.entry(t, "input shut").RefusedPackets, g.entry(t, "input default").RefusedPackets
		tried(t)
		together(
			tcp(g.LAN2, ip.gwLAN, 22).drops(t), udp(g.LAN1, ip.gwLAN, 123).drops(t), ping(g.DMZ, ip.gwDMZ).drops(t),
			tcp(g.Neighbor, ip.uplink, 22).drops(t), udp(g.Server, ip.uplink, 53).drops(t), ping(g.Server, ip.uplink).drops(t),
		)
		if e := g.entry(t, "input ssh"); e.NewFlows-ssh != 2 {
			t.Errorf("status counts %+v, want 2 flows more than %d", e, ssh)
		}
		if e := g.entry(t, "input shut"); e.RefusedPackets-shut < 1 {
			t.Errorf("status counts %+v, want more packets than %d", e, shut)
		}
		if e := g.entry(t, "input default"); e.RefusedPackets-rest < 6 {
			t.Errorf("status counts %+v, want 6 packets more than %d", e, rest)
		}

		g.apply(t, zones+"input:\n  default: reject"+rules)
		tried(t)
		fails(t, g.LAN2, at(ip.gwLAN, 22), lab.IsRefused)
		failsUDP(t, g.LAN1, at(ip.gwLAN, 123), lab.IsRefused)
		if r, err := g.Server.Ping(ip.uplink, lab.Patience, lab.PingOptions{}); err != nil || !r.Prohibited() {
			t.Errorf("a ping from outside: %v, %v, want to hear that it is forbidden", r, err)
		}

		g.apply(t, zones+"input:\n  default: accept"+rules)
		tried(t)
		tcp(g.LAN2, ip.gwLAN, 22).sees(t, ip.lan2)
		ping(g.Server, ip.uplink).sees(t, "")

		// Without the section nothing is put on input.
		g.apply(t, zones)
		tcp(g.LAN1, ip.gwLAN, 25).sees(t, ip.lan1)
		udp(g.Server, ip.uplink, 123).sees(t, ip.outside)
	})
	g.delete(t)
}

// Limits and rates are of new flows, as in forward.
func TestInputLimits(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.GW)
	g := applied(t, topo, zones+`
input:
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept, max_connections: {per_host: 1}}
    - {name: ping, icmp_types: echo-request, action: accept, rate: {limit: 1/hour, burst: 2, per: source}, log: true}
`)
	each(t, func(t *testing.T, ip family) {
		first := opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		together(
			tcp(g.LAN1, ip.gwLAN, 22).drops(t),
			func() { opens(t, g.LAN2, at(ip.gwLAN, 22), ip.lan2) },
			func() {
				for id := range uint16(3) { // a flow each
					if _, err := g.LAN1.Ping(ip.gwLAN, lab.Silence, lab.PingOptions{ID: 100 + id}); (err == nil) != (id < 2) {
						t.Errorf("ping %d: %v", id, err)
					}
				}
				pings(t, g.LAN2, ip.gwLAN)
			},
		)
		carries(t, first)
	})
	g.delete(t)
}

// What is translated on its way in is none of input's: port forwards, hairpin,
// loopback addresses.
func TestInputTranslated(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.LAN1)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		const web = "\n" + `  - {name: web, from: wan, protocol: [tcp, udp], ports: [80, 53], to: "$lan1"}` + "\n"
		g.apply(t, zones+ip.forwards(web)+"input: {default: drop}\n")
		opens(t, g.Neighbor, at(ip.uplink, 80), ip.neighbor)
		asks(t, g.Neighbor, at(ip.uplink, 53), ip.neighbor)
		opens(t, g.DMZ, at(ip.uplink, 80), ip.dmz)
		opens(t, g.LAN2, at(ip.uplink, 80), ip.gwLAN)
		opens(t, g.GW, at(ip.uplink, 80), ip.uplink)
		fails(t, g.Neighbor, at(ip.uplink, 22), lab.IsTimeout)
		t.Run("loopback", func(t *testing.T) {
			g.apply(t, zones+ip.forwards(web+`  - {name: own, address: "`+ip.loopback()+`", protocol: tcp, ports: 5432, to: "$lan1:81"}`+"\n")+"input: {default: drop}\n")
			opens(t, g.GW, at(ip.loopback(), 5432), ip.gwLAN)
			opens(t, g.Neighbor, at(ip.uplink, 80), ip.neighbor)
			fails(t, g.Neighbor, at(ip.uplink, 22), lab.IsTimeout)
		})
	})
	g.delete(t)
}

// The MTU of the path is learned by what the gateway sends itself.
func TestInputPathMTU(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.PathMTU(1300), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	topo.GW.NoOffload("eth0")
	g := applied(t, topo, zones+"input: {default: drop}\n")
	each(t, func(t *testing.T, ip family) {
		told := g.GW.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP, func(p *lab.Packet) bool { return p.NextHopMTU() == 1300 }))
		if c := opens(t, g.GW, at(ip.outside, 80), ip.uplink); c != nil {
			if err := c.Echo(lab.Patience, string(make([]byte, 1<<20))); err != nil {
				t.Errorf("a megabyte there and back: %v", err)
			}
		}
		if told.Sync(); told.Count() == 0 {
			t.Error("nobody told the gateway of the MTU: this tests nothing")
		}
	})
	g.delete(t)
}

// What belongs to no flow and opens none is dropped and counted apart from
// what forward drops; so is what arrives from a source that no zone has.
func TestInputInvalid(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.GW)
	topo.LAN1.Addr("eth0", "10.66.0.1/32", "fd00:66::1/128")
	topo.GW.Route("10.66.0.1/32", lab.LAN1)
	topo.GW.Route("fd00:66::1/128", lab.LAN1v6)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"], antispoof: false}
  wan: {interfaces: [eth0]}
input: {default: drop, rules: [{from: lan, action: accept}]}
`)
	each(t, func(t *testing.T, ip family) {
		before, forward := g.entry(t, "invalid input").RefusedPackets, g.entry(t, "invalid ").RefusedPackets
		answers := g.LAN1.Capture("eth0", lab.All(lab.Incoming, ip.tcp))
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.gwLAN), SrcPort: 999, DstPort: 22, Flags: lab.RST}.Bytes(),
			lab.TCP{Header: lab.Between(ip.lan1, ip.gwLAN), SrcPort: 999, DstPort: 22, Flags: lab.SYN | lab.ACK}.Bytes())
		if answers.Sync(); answers.Count() != 0 {
			t.Errorf("it was answered: %v", answers)
		}
		if e := g.entry(t, "invalid input"); e.RefusedPackets-before != 2 {
			t.Errorf("status counts %+v, want 2 more than %d", e, before)
		}
		if e := g.entry(t, "invalid "); e.RefusedPackets != forward {
			t.Errorf("forward counts %+v, and had %d", e, forward)
		}
		opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		odd := map[bool]string{false: "10.66.0.1", true: "fd00:66::1"}[ip.v6()]
		fails(t, g.LAN1, at(ip.gwLAN, 22), lab.IsTimeout, lab.From(odd))
	})
	g.delete(t)
}

// A mark of an input rule is on every packet before input, where another
// firewall lets pass what has it.
func TestInputMark(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.GW)
	g := untouched(t, topo)
	g.apply(t, zones+`
input:
  rules:
    - {name: first, from: lan, protocol: tcp, ports: 25, action: accept}
    - {name: marked, from: lan, protocol: tcp, ports: [22, 25], action: accept, mark: 0x20/0xf0}
    - {name: plain, protocol: tcp, ports: 22, action: accept}
`)
	g.GW.Feed(t, "table inet other {\n chain input {\n type filter hook input priority -5\n iifname \"lo\" accept\n meta l4proto tcp meta mark & 0xf0 != 0x20 drop\n }\n}\n", "nft", "-f", "-")
	each(t, func(t *testing.T, ip family) {
		carries(t, opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1))
		together(tcp(g.DMZ, ip.gwDMZ, 22).drops(t), tcp(g.LAN1, ip.gwLAN, 25).drops(t))
	})
	g.GW.Run(t, "nft", "delete", "table", "inet", "other")
	g.delete(t)
}
