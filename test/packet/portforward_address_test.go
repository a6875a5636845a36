package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Without an address an entry takes what is aimed at the gateway, whichever of
// its addresses it is, and leaves alone what passes through.
func TestPortForwardOwnAddresses(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.InsideRoutes())
	g := untouched(t, topo)
	listens(topo.LAN1, 8080)
	listens(topo.LAN2, 80)
	listens(topo.DMZ, 80)
	listens(topo.Server, 80)
	extra := map[string]string{"IPv4": "203.0.113.50", "IPv6": "2001:db8:113::50"}
	each(t, func(t *testing.T, ip family) {
		masquerade := "masquerade: [{from: [lan, dmz], to: wan}]\n"
		web := "  - {name: web, from: [wan, dmz], protocol: [tcp, udp], ports: 80, to: \"$lan1:8080\"}\n"
		uplinks := strings.Replace(zones, "[eth0]", "[eth0, eth3]", 1)
		g.apply(t, uplinks+masquerade+ip.forwards(web)+"forward: {default: accept}\n")
		for _, proto := range []string{"tcp", "udp"} {
			// Any of its addresses, wherever the packet comes in.
			for _, own := range []string{ip.uplink, ip.uplink2, ip.gwLAN, ip.gwDMZ} {
				lands(t, proto, topo.Server, at(own, 80), at(ip.lan1, 8080), "")
				lands(t, proto, topo.DMZ, at(own, 80), at(ip.lan1, 8080), "")
			}
			// Traffic in transit, each way.
			lands(t, proto, topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.uplink)
			lands(t, proto, topo.DMZ, at(ip.outside, 80), at(ip.outside, 80), ip.uplink)
			lands(t, proto, topo.DMZ, at(ip.lan2, 80), at(ip.lan2, 80), "")
			lands(t, proto, topo.Neighbor, at(ip.dmz, 80), at(ip.dmz, 80), "")
		}
		// One that the gateway gets later, with no new apply.
		topo.GW.Addr("eth0", extra[ip.name]+map[bool]string{false: "/24", true: "/64"}[ip.v6()])
		lands(t, "tcp", topo.Neighbor, at(extra[ip.name], 80), at(ip.lan1, 8080), "")
	})
	g.delete(t)
}

// An explicit address takes that address alone: one of two, one that is only
// routed here, a prefix with a list, and a set.
func TestPortForwardAddress(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 8080, 8090)
	listens(topo.LAN2, 80, 8090)
	listens(topo.GW, 80)
	second := map[string]string{"IPv4": "203.0.113.5", "IPv6": "2001:db8:113::5"}
	routed := map[string]string{"IPv4": "198.18.7.", "IPv6": "2001:db8:777::"}
	topo.GW.Addr("eth0", second["IPv4"]+"/24", second["IPv6"]+"/64")
	for _, h := range []*lab.Host{topo.Neighbor, topo.ISP} {
		h.Route("198.18.7.0/24", lab.GatewayUplink)
		h.Route("2001:db8:777::/64", lab.GatewayUplinkv6)
	}
	each(t, func(t *testing.T, ip family) {
		net, last := routed[ip.name], "255"
		prefix, span := net+"16/30", net+"32-"+net+"33"
		if ip.v6() {
			prefix, span, last = net+"10/126", net+"20-"+net+"21", "ff"
		}
		inPrefix, inSpan := map[bool]string{false: "17", true: "11"}[ip.v6()], map[bool]string{false: "33", true: "21"}[ip.v6()]
		outOfPrefix, outOfSpan := map[bool]string{false: "20", true: "14"}[ip.v6()], map[bool]string{false: "34", true: "22"}[ip.v6()]
		g.apply(t, zones+"sets: {ours: [\""+net+"5\", \""+net+"7\"]}\n"+ip.forwards(`
  - {name: second, from: wan, address: "`+second[ip.name]+`", protocol: [tcp, udp], ports: 80, to: "$lan1:8080"}
  - {name: routed, from: wan, address: "`+net+`1", protocol: [tcp, udp], ports: 80, to: "$lan2"}
  - {name: range, from: wan, address: "`+net+`1", protocol: tcp, ports: 8085-8095, to: "$lan2"}
  - {name: many, from: wan, address: ["`+prefix+`", "`+span+`"], protocol: [tcp, udp], ports: 81, to: "$lan1:8080"}
  - {name: set, from: wan, address: "@ours", protocol: [tcp, udp], ports: 82, to: "$lan1:8080"}
`))
		out, web, other := topo.Neighbor, at(ip.lan1, 8080), at(ip.lan2, 80)
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, out, at(second[ip.name], 80), web, "")
			lands(t, proto, out, at(ip.uplink, 80), at(ip.uplink, 80), "") // the gateway's own page
			lands(t, proto, out, at(net+"1", 80), other, "")
			for _, ok := range []string{inPrefix, inSpan} {
				lands(t, proto, topo.Server, at(net+ok, 81), web, "")
			}
			lands(t, proto, out, at(net+"5", 82), web, "")
			lands(t, proto, out, at(net+"7", 82), web, "")
			// Inside hosts and the gateway itself reach them too.
			for _, inside := range []*lab.Host{topo.DMZ, topo.GW} {
				lands(t, proto, inside, at(net+"1", 80), other, "")
				lands(t, proto, inside, at(net+inSpan, 81), web, "")
				lands(t, proto, inside, at(net+"7", 82), web, "")
			}
			lands(t, proto, topo.LAN2, at(net+"1", 80), other, ip.gwLAN)
			lands(t, proto, topo.LAN2, at(net+inPrefix, 81), web, ip.gwLAN)
		}
		lands(t, "tcp", out, at(net+"1", 8090), at(ip.lan2, 8090), "")
		fails(t, out, at(ip.uplink, 8090), lab.IsRefused)
		fails(t, out, at(ip.uplink, 81), lab.IsRefused)
		fails(t, out, at(second[ip.name], 82), lab.IsRefused)
		unheard(t, out, at(net+"2", 80), at(net+outOfPrefix, 81), at(net+outOfSpan, 81), at(net+"6", 82), at(net+last, 82))
	})
	g.delete(t)
}

// `address: any` takes what passes through as well: whichever name server the
// LAN asks, ours answers, from the address that was asked.
func TestPortForwardAnyAddress(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	for _, h := range []*lab.Host{topo.DMZ, topo.Server, topo.LAN2} {
		listens(h, 53, 80)
	}
	each(t, func(t *testing.T, ip family) {
		policy := zones + "masquerade: [{from: [lan, dmz], to: wan}]\n" + ip.forwards(`
  - {name: dns, from: lan, address: any, protocol: [tcp, udp], ports: 53, except_sources: "`+ip.lan2+`", to: TARGET}
`)
		g.apply(t, strings.Replace(policy, "TARGET", `"`+ip.dmz+`"`, 1))
		for _, proto := range []string{"tcp", "udp"} {
			for _, asked := range []string{ip.outside, ip.uplink, ip.gwLAN, ip.neighbor} {
				lands(t, proto, topo.LAN1, at(asked, 53), at(ip.dmz, 53), "")
			}
			lands(t, proto, topo.LAN1, at(ip.outside, 80), at(ip.outside, 80), ip.uplink)
			lands(t, proto, topo.LAN2, at(ip.outside, 53), at(ip.outside, 53), ip.uplink) // an exception
			lands(t, proto, topo.DMZ, at(ip.outside, 53), at(ip.outside, 53), ip.uplink)  // from another zone
			lands(t, proto, topo.GW, at(ip.outside, 53), at(ip.outside, 53), ip.uplink)
		}
		fails(t, topo.Neighbor, at(ip.uplink, 53), lab.IsRefused)

		// A name server in the LAN itself answers through the gateway, or the
		// client would not know the answer for one.
		g.apply(t, strings.Replace(policy, "TARGET", `"`+ip.lan2+`"`, 1))
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN1, at(ip.outside, 53), at(ip.lan2, 53), ip.gwLAN)
		}
		// One outside is reached as anything outside is.
		g.apply(t, strings.Replace(policy, "TARGET", `"`+ip.outside+`"`, 1))
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.LAN1, at(ip.neighbor, 53), at(ip.outside, 53), ip.uplink)
		}
	})
	g.delete(t)
}
