package packet

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A transparent proxy gets what passes through and what is aimed at another
// port of the gateway, knows where it was meant to go, and is closed to
// everyone who connects to it directly, with and without an input section.
func TestRedirectProxy(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	answering(topo.Server)
	proxy(t, topo.GW, 3128, itself)
	topo.GW.ServeTCP(":25")
	g := untouched(t, topo)
	for name, input := range map[string]string{
		"without input": "",
		"input drop":    "input: {default: drop}\n",
		"input accept":  "input: {default: accept, rules: [{from: lan, action: accept}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, ip family) {
				g.apply(t, zones+"masquerade: {from: lan, to: wan}\nredirect:\n  - {name: http, from: lan, protocol: tcp, ports: [80, 81], to_port: 3128}\n"+input)
				flows, closed := g.entry(t, "redirect http").NewFlows, g.entry(t, "closed redirect ports").RefusedPackets
				carries(t, meetsProxy(t, g.LAN1, at(ip.outside, 80)))
				meetsProxy(t, g.LAN2, at(ip.outside, 81))
				// There is nobody, and no route to where that would be.
				meetsProxy(t, g.LAN1, at(map[bool]string{false: "10.1.2.3", true: "fd00:77::1"}[ip.v6()], 80))
				meetsProxy(t, g.LAN1, at(ip.gwLAN, 80))
				meetsProxy(t, g.LAN1, at(ip.uplink, 81))
				opens(t, g.LAN1, at(ip.outside, 25), ip.uplink) // not of the entry
				together(
					tcp(g.LAN1, ip.gwLAN, 3128).drops(t), tcp(g.LAN1, ip.uplink, 3128).drops(t), tcp(g.LAN1, ip.gwDMZ, 3128).drops(t),
					tcp(g.DMZ, ip.gwDMZ, 3128).drops(t), tcp(g.Neighbor, ip.uplink, 3128).drops(t), tcp(g.Server, ip.uplink, 3128).drops(t),
				)
				if e := g.entry(t, "redirect http"); e.NewFlows-flows != 5 {
					t.Errorf("status counts %+v, want 5 flows more than %d", e, flows)
				}
				if e := g.entry(t, "closed redirect ports"); e.RefusedPackets-closed < 6 {
					t.Errorf("status counts %+v, want 6 packets more than %d", e, closed)
				}
				// The gateway itself reaches its ports, and what comes from no
				// zone is left alone.
				meetsProxy(t, g.GW, at(ip.gwLAN, 3128))
				meetsProxy(t, g.Guest, at(map[bool]string{false: lab.GatewayGuest, true: lab.GatewayGuestv6}[ip.v6()], 3128))
				if input == "" {
					opens(t, g.LAN1, at(ip.gwLAN, 25), ip.lan1)
					opens(t, g.Neighbor, at(ip.uplink, 25), ip.neighbor)
				}
			})
		})
	}
	g.delete(t)
}

// All ports, the proxy's own among them: on the way through it is one like the
// others, at the gateway it is closed.
func TestRedirectAllPorts(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	proxy(t, topo.GW, 12345, itself)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1]}
  wan: {interfaces: [eth0]}
redirect:
  - {name: all, from: lan, protocol: tcp, to_port: 12345}
  - {name: range, from: wan, protocol: tcp, ports: 12000-13000, to_port: 12345, log: true}
`)
	each(t, func(t *testing.T, ip family) {
		meetsProxy(t, g.LAN1, at(ip.outside, 443))
		meetsProxy(t, g.LAN1, at(ip.outside, 12345))
		meetsProxy(t, g.LAN1, at(ip.gwLAN, 22))
		meetsProxy(t, g.Neighbor, at(ip.uplink, 12999))
		together(tcp(g.LAN1, ip.gwLAN, 12345).drops(t), tcp(g.LAN1, ip.uplink, 12345).drops(t), tcp(g.Neighbor, ip.uplink, 12345).drops(t))
	})
	g.delete(t)
}

// Names and pings are answered by the gateway, wherever they are sent. The
// gateway's own service of that port stays what it was.
func TestRedirectSamePort(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server)
	topo.GW.ServeUDP(":53", lab.As("gateway"))
	g := untouched(t, topo)
	answers := func(t *testing.T, h *lab.Host, remote string) {
		t.Helper()
		if s, err := h.UDPExchange("", remote, "hello", lab.Patience); err != nil || s.Name != "gateway" {
			t.Errorf("%s asks %s: %v, %v", h.Name(), remote, s, err)
		}
	}
	each(t, func(t *testing.T, ip family) {
		const policy = zones + "masquerade: {from: [lan, dmz], to: wan}\nredirect:\n  - {name: dns, from: lan, protocol: [udp, tcp], ports: 53}\n  - {name: ping, from: lan, protocol: [icmp, icmpv6]}\n"
		nobody := map[bool]string{false: "198.51.100.77", true: "2001:db8:100::77"}[ip.v6()]
		g.apply(t, policy)
		for _, remote := range []string{ip.outside, nobody, ip.dmz, ip.gwLAN, ip.uplink} {
			answers(t, g.LAN1, at(remote, 53))
			pings(t, g.LAN1, remote)
		}
		answers(t, g.DMZ, at(ip.gwDMZ, 53))
		answers(t, g.Neighbor, at(ip.uplink, 53))
		asks(t, g.DMZ, at(ip.outside, 53), ip.uplink)
		pings(t, g.DMZ, ip.gwDMZ)

		// With input, what is redirected passes, and the rest is for its rules.
		g.apply(t, policy+"input: {rules: [{name: dns, from: dmz, protocol: udp, ports: 53, action: accept}]}\n")
		answers(t, g.LAN1, at(ip.outside, 53))
		answers(t, g.LAN1, at(nobody, 53))
		pings(t, g.LAN1, nobody)
		answers(t, g.DMZ, at(ip.gwDMZ, 53))
		together(
			udp(g.LAN1, ip.gwLAN, 53).drops(t), udp(g.LAN1, ip.uplink, 53).drops(t), udp(g.Neighbor, ip.uplink, 53).drops(t),
			ping(g.LAN1, ip.gwLAN).drops(t), ping(g.DMZ, ip.gwDMZ).drops(t), ping(g.DMZ, nobody).drops(t),
		)
	})
	g.delete(t)
}

// Who is redirected, and on the way to where.
func TestRedirectNarrowed(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	proxy(t, topo.GW, 3128, itself)
	g := untouched(t, topo)
	base := zones + "masquerade: {from: lan, to: wan}\nforward: {rules: [{from: lan, to: dmz, action: accept}]}\nredirect: {name: http, from: lan, protocol: tcp, ports: 80, to_port: 3128, "
	each(t, func(t *testing.T, ip family) {
		both := func(text string) string { return base + text + "}\n" }
		g.apply(t, both(`sources: ["`+ip.lan1+`"]`))
		meetsProxy(t, g.LAN1, at(ip.outside, 80))
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
		g.apply(t, both(`except_sources: ["`+ip.lan1+`"]`))
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		meetsProxy(t, g.LAN2, at(ip.outside, 80))
		g.apply(t, both(`destinations: ["`+ip.dmz+`"]`))
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		meetsProxy(t, g.LAN1, at(ip.dmz, 80))
		g.apply(t, both(`except_destinations: ["`+ip.dmz+`", gateway]`))
		meetsProxy(t, g.LAN1, at(ip.outside, 80))
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		fails(t, g.LAN1, at(ip.gwLAN, 80), lab.IsRefused)
		g.apply(t, both(`family: `+map[bool]string{false: "ipv6", true: "ipv4"}[ip.v6()]))
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
	})
	g.delete(t)
}

// The gateway's own connections too; the proxy's own ones go past it to its
// parent.
func TestRedirectLocal(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.Neighbor)
	for _, ip := range families() {
		for _, addr := range []string{ip.uplink, map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()]} {
			topo.GW.ServeTCP(at(addr, 80))
		}
	}
	parent := func(meant netip.AddrPort) string {
		for _, ip := range families() {
			if meant.Addr().String() == ip.outside {
				return at(ip.neighbor, 80)
			}
		}
		return ""
	}
	proxy(t, topo.GW, 3128, parent)
	g := applied(t, topo, zones+`
redirect:
  - {name: http, from: lan, protocol: tcp, ports: [80, 81], to_port: 3128, local: true, except_destinations: [203.0.113.3, "2001:db8:113::3"]}
input: {default: drop}
`)
	each(t, func(t *testing.T, ip family) {
		for _, h := range []*lab.Host{g.GW, g.LAN1} {
			if c := opens(t, h, at(ip.outside, 80), ip.uplink); c != nil && c.Seen().Name != "neighbor" {
				t.Errorf("%s was answered by %v, want the parent", h.Name(), c.Seen())
			}
		}
		if c := opens(t, g.GW, at(ip.neighbor, 80), ip.uplink); c != nil && c.Seen().Name != "neighbor" {
			t.Errorf("the exception was answered by %v", c.Seen())
		}
		meetsProxy(t, g.GW, at(ip.isp, 80))
		meetsProxy(t, g.GW, at(ip.uplink, 81)) // another port of the gateway
		loopback := map[bool]string{false: "127.0.0.1", true: "::1"}[ip.v6()]
		opens(t, g.GW, at(loopback, 80), loopback)
		fails(t, g.LAN1, at(ip.gwLAN, 3128), lab.IsTimeout)
	})
	g.delete(t)
}

// On the way in, port forwards come first, then redirects, then one_to_one.
func TestRedirectOrder(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.GW.Addr("eth0", "203.0.113.10/24", "2001:db8:113::10/64")
	topo.LAN1.ServeTCP(":8080")
	answering(topo.LAN2)
	topo.LAN2.ServeTCP(":82")
	proxy(t, topo.GW, 3128, itself)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		mapped := map[bool]string{false: "203.0.113.10", true: "2001:db8:113::10"}[ip.v6()]
		g.apply(t, zones+ip.forwards(`
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "$lan1:8080"}
`)+`redirect: {name: http, from: wan, protocol: tcp, ports: 80-81, to_port: 3128}
one_to_one: {name: mail, zone: wan, outside: "`+mapped+`", inside: "`+ip.lan2+`", expose: tcp}
`)
		for port, name := range map[int]string{80: "lan1", 81: "proxy", 82: "lan2"} {
			c, err := g.Neighbor.DialTCP(lab.Patience, at(mapped, port))
			if err != nil || c.Seen().Name != name {
				t.Errorf("port %d: %v, want an answer of %s", port, err, name)
				continue
			}
			c.Close()
		}
		fails(t, g.Neighbor, at(ip.uplink, 3128), lab.IsTimeout)
	})
	g.delete(t)
}

// What was redirected goes on when the entry goes, where it is to be kept, and
// no new flow is; delete cuts what is still open.
func TestRedirectRemoved(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	proxy(t, topo.GW, 3128, itself)
	const rest = zones + "masquerade: {from: lan, to: wan}\n"
	const policy = rest + "redirect: {name: http, from: lan, protocol: tcp, ports: 80, to_port: 3128}\n"
	g := applied(t, topo, policy)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, policy)
		c := meetsProxy(t, g.LAN1, at(ip.outside, 80))
		carries(t, c)
		g.apply(t, policy+"input: {default: drop}\n")
		carries(t, c)
		g.apply(t, rest, "--keep-flows")
		carries(t, c)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		g.apply(t, policy)
		carries(t, c)
		carries(t, meetsProxy(t, g.LAN1, at(ip.outside, 80)))
	})
	leaks.none(t)
	g.delete(t)
	leaks.none(t)
}

// Delete cuts what was redirected: the proxy's answers would come from another
// address.
func TestRedirectDelete(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	proxy(t, topo.GW, 3128, itself)
	g := applied(t, topo, zones+"redirect: {name: http, from: lan, protocol: tcp, ports: 80, to_port: 3128, local: true}\n")
	var held []*lab.Conn
	for _, ip := range families() {
		held = append(held, meetsProxy(t, g.LAN1, at(ip.outside, 80)), meetsProxy(t, g.GW, at(ip.outside, 80)))
	}
	answers := g.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.IsTCP, lab.SrcPort(3128)))
	var deleted struct {
		FlowsCut int `json:"flows_cut"`
	}
	out := g.ipmasq(t, 0, "delete", "-o", "json")
	if err := json.Unmarshal([]byte(out), &deleted); err != nil || deleted.FlowsCut != len(held) {
		t.Errorf("delete cut %d flows, want %d: %v", deleted.FlowsCut, len(held), err)
	}
	for _, c := range held {
		if c != nil && c.Echo(lab.Silence, "still there") == nil {
			t.Errorf("%s still talks to the proxy", c.Local())
		}
	}
	if answers.Sync(); answers.Count() != 0 {
		t.Errorf("the proxy shows itself: %v", answers)
	}
	g.delete(t)
}

// IPv6 hosts that have no address but that of the link, and a gateway that has
// no other there.
func TestRedirectLinkLocal(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	proxy(t, topo.GW, 3128, itself)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1]}
  wan: {interfaces: [eth0]}
redirect: {name: http, from: lan, protocol: tcp, ports: 80, to_port: 3128}
`)
	meets := func(remote string, opts ...lab.DialOption) {
		t.Helper()
		if c, err := topo.LAN1.DialTCP(lab.Patience, remote, opts...); err != nil || c.Seen().Name != "proxy" {
			t.Errorf("%s: %v", remote, err)
		}
	}
	host, gw := linkLocal(t, topo.LAN1, "eth0"), linkLocal(t, topo.GW, "eth1")
	meets(at(lab.Outsidev6, 80), lab.From("["+host+"%eth0]:0"), lab.Via("eth0"))
	meets("[" + gw + "%eth0]:80")
	topo.LAN1.DelRoute("default", lab.GatewayLANv6)
	topo.LAN1.Route("default", gw+" dev eth0")
	topo.GW.DelAddr("eth1", lab.GatewayLANv6+"/64")
	topo.GW.Route("fd00:1::/64", "dev eth1")
	meets(at(lab.Outsidev6, 80))
	g.delete(t)
}
