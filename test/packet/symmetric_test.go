package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// twoUplinks is a gateway with the default route through eth0 and a second
// uplink at eth3. Each ISP drops what does not come from its own network, as
// ISPs do (RFC 2827), so that an answer by the wrong uplink is lost. The
// gateway is strict about the way back itself.
func twoUplinks(t *testing.T) *lab.Topology {
	t.Helper()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	onlyFrom := func(h *lab.Host, v4, v6 string) {
		h.Run(t, "nft", "add table inet ingress; add chain inet ingress forward { type filter hook forward priority 0; }; "+
			"add rule inet ingress forward iifname eth0 ip saddr != "+v4+" drop; "+
			"add rule inet ingress forward iifname eth0 ip6 saddr != "+v6+" drop")
	}
	onlyFrom(topo.ISP, "203.0.113.0/24", "2001:db8:113::/64")
	onlyFrom(topo.ISP2, "192.0.2.0/24", "2001:db8:2::/64")
	for _, name := range []string{"all", "eth0", "eth1", "eth3"} {
		topo.GW.Sysctl("net.ipv4.conf."+name+".rp_filter", "1")
	}
	answering(topo.Server, topo.LAN1, topo.GW)
	return topo
}

// symmetricZones are the zones with a second uplink, and what comes in there.
func symmetricZones(wan, wan2 string) string {
	return `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]` + wan + `}
  wan2: {interfaces: [eth3]` + wan2 + `}
masquerade:
  - {from: lan, to: [wan, wan2]}
port_forward:
  - {name: web, from: [wan, wan2], protocol: tcp, ports: 81, to: "192.168.1.10:80"}
  - {name: web6, from: [wan, wan2], protocol: tcp, ports: 81, to: "[fd00:1::10]:80"}
  - {name: dns, from: [wan, wan2], protocol: udp, ports: 123, to: "192.168.1.10:53"}
  - {name: dns6, from: [wan, wan2], protocol: udp, ports: 123, to: "[fd00:1::10]:53"}
`
}

const viaISP2 = `, symmetric: {gateway: [192.0.2.1, "2001:db8:2::1"]}`

// routing is all rules and routes, without those that the kernel makes by
// itself.
func routing(t *testing.T, h *lab.Host) string {
	t.Helper()
	all := h.Run(t, "ip", "rule") + h.Run(t, "ip", "-6", "rule") +
		h.Run(t, "ip", "-4", "route", "show", "table", "all") + h.Run(t, "ip", "-6", "route", "show", "table", "all")
	var out strings.Builder
	for line := range strings.Lines(all) {
		if !strings.Contains(line, "proto kernel") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// reaches sees that the outside gets through by each uplink, to the inside and
// to the gateway itself, and that the inside gets out.
func reaches(t *testing.T, g *gateway, ip family) {
	t.Helper()
	for _, uplink := range []string{ip.uplink, ip.uplink2} {
		carries(t, opens(t, g.Server, at(uplink, 81), ip.outside))
		asks(t, g.Server, at(uplink, 123), ip.outside)
		carries(t, opens(t, g.Server, at(uplink, 22), ip.outside))
		pings(t, g.Server, uplink)
	}
	opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
}

// What came in by the second uplink is answered by it, though the default route
// is the first.
func TestSymmetric(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	before := routing(t, topo.GW)
	g := applied(t, topo, symmetricZones("", ""))
	each(t, func(t *testing.T, ip family) { // or the rest would prove nothing
		together(tcp(g.Server, ip.uplink2, 81).drops(t), tcp(g.Server, ip.uplink2, 22).drops(t), ping(g.Server, ip.uplink2).drops(t))
	})
	g.apply(t, symmetricZones("", viaISP2))
	leaks := g.leaks(t, "eth0", "eth3")
	each(t, func(t *testing.T, ip family) { reaches(t, g, ip) })
	leaks.none(t)
	if got := g.GW.GetSysctl("net.ipv4.conf.eth3.rp_filter"); got != "2" {
		t.Errorf("rp_filter of eth3 is %s", got)
	}
	g.ipmasq(t, 0, "status")
	g.ipmasq(t, 0, "plan", g.dir+"/policy.yaml")
	g.delete(t)
	if after := routing(t, g.GW); after != before {
		t.Errorf("delete left routing behind\n%s", difference(before, after))
	}
}

// Without a gateway in the policy the next hop is that of the default route
// through the interface, though the host itself prefers another; and so for
// both uplinks, whichever the default route is.
func TestSymmetricBothUplinks(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	topo.GW.Route("default", lab.ISP2+" metric 500")
	topo.GW.Route("default", lab.ISP2v6+" metric 5000")
	before := routing(t, topo.GW)
	g := applied(t, topo, symmetricZones(", symmetric: true", ", symmetric: true"))
	each(t, func(t *testing.T, ip family) {
		reaches(t, g, ip)
		isp := lab.ISP
		if ip.v6() {
			isp = lab.ISPv6
		}
		c := opens(t, g.Server, at(ip.uplink, 81), ip.outside)
		g.GW.DelRoute("default", isp)
		carries(t, c) // answered by its own uplink still
		carries(t, opens(t, g.Server, at(ip.uplink, 81), ip.outside))
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink2)
		g.GW.Route("default", isp)
	})
	g.ipmasq(t, 0, "status")
	g.delete(t)
	if after := routing(t, g.GW); after != before {
		t.Errorf("delete left routing behind\n%s", difference(before, after))
	}
}

// A host beside the first uplink that came in by the second is answered by the
// second; a host beside the second directly.
func TestSymmetricNeighbors(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	topo.ISP.Route("192.0.2.0/24", "198.51.100.2")
	topo.ISP.Route("2001:db8:2::/64", "2001:db8:100::2")
	g := applied(t, topo, symmetricZones("", viaISP2))
	each(t, func(t *testing.T, ip family) {
		carries(t, opens(t, g.ISP2, at(ip.uplink2, 81), ip.isp2))
		carries(t, opens(t, g.Neighbor, at(ip.uplink2, 22), ip.neighbor))
	})
}

// Taking the key out takes out what it needed; what somebody else takes out is
// drift, which the next apply puts right.
func TestSymmetricComesAndGoes(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	before := routing(t, topo.GW)
	g := applied(t, topo, symmetricZones("", `, symmetric: {gateway: 192.0.2.1, mark: 0x200/0xff00, table: 77}`))
	if got := g.GW.Run(t, "ip", "rule"); !strings.Contains(got, "fwmark 0x200/0xff00 lookup 77") {
		t.Errorf("no rule for the mark that is written:\n%s", got)
	}
	carries(t, opens(t, g.Server, at(lab.GatewayUplink2, 81), lab.Outside))

	g.GW.Run(t, "ip", "rule", "del", "fwmark", "0x200/0xff00")
	g.GW.Run(t, "ip", "route", "flush", "table", "77")
	if out := g.ipmasq(t, 2, "status"); !strings.Contains(out, "+ rule 901: fwmark 0x200/0xff00 lookup 77 (IPv4)") ||
		!strings.Contains(out, "+ route default via 192.0.2.1 dev eth3 table 77 (IPv4)") {
		t.Errorf("status does not tell what is missing:\n%s", out)
	}
	g.ipmasq(t, 0, "apply", g.dir+"/policy.yaml")
	carries(t, opens(t, g.Server, at(lab.GatewayUplink2, 81), lab.Outside))

	if out := g.apply(t, symmetricZones("", "")); !strings.Contains(out, "- rule 901: fwmark 0x200/0xff00 lookup 77 (IPv4)") {
		t.Errorf("apply does not tell what goes:\n%s", out)
	}
	if after := routing(t, g.GW); after != before {
		t.Errorf("apply left routing behind\n%s", difference(before, after))
	}
	if got := g.GW.GetSysctl("net.ipv4.conf.eth3.rp_filter"); got != "1" {
		t.Errorf("rp_filter of eth3 is %s", got)
	}
	g.delete(t)
}

// Where the strict filter looks at marks (src_valid_mark, as wg-quick sets it),
// it takes answers from the inside for forged: apply says so, and what to set.
func TestSymmetricWithValidMarks(t *testing.T) {
	t.Parallel()
	topo := twoUplinks(t)
	topo.GW.Sysctl("net.ipv4.conf.all.src_valid_mark", "1")
	g := applied(t, topo, symmetricZones("", viaISP2))
	tcp(g.Server, lab.GatewayUplink2, 81).dropped(t)
	topo.GW.Sysctl("net.ipv4.conf.eth1.rp_filter", "2")
	carries(t, opens(t, g.Server, at(lab.GatewayUplink2, 81), lab.Outside))
	carries(t, opens(t, g.Server, at(lab.GatewayUplink2, 22), lab.Outside))
}
