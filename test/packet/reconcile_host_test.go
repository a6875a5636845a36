package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// aside is a change of policy that concerns nothing which is open.
const aside = "forward: {rules: [{name: aside, from: dmz, to: wan, protocol: tcp, ports: 9999, action: accept}]}\n"

// What the policy before would not let pass either, on the host as it is, is not
// for the new one to cut: a link is down for a while, and its hosts seem to be
// behind the default route.
func TestReconcileLinkDown(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		other := "  - {name: other, from: wan, protocol: udp, ports: 8081, to: \"$lan2:80\"}\n"
		policy := calm + "  - {name: lan, from: lan, to: wan}\n" + ip.forwards("  - {name: game, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n"+other)
		other = strings.Replace(other, "$lan2", bracketed(ip.lan2), 1)
		r := reconciling(t, ip, policy)
		listens(r.Server, 80)
		listens(r.LAN1, 80)
		listens(r.LAN2, 80)
		out, in := opens(t, r.LAN1, at(ip.outside, 80), ip.uplink), opens(t, r.Neighbor, at(ip.uplink, 8080), ip.neighbor)
		u := socket(t, r.LAN1, at(ip.outside, 80))
		leavesAs(t, u, ip.uplink)
		answered(t, socket(t, r.Neighbor, at(ip.uplink, 8081)), at(ip.lan2, 80))
		r.GW.Down("eth1")
		r.changes(t, policy+aside, map[string]int{})
		// A forward that goes takes its flows with it even now.
		policy = strings.Replace(policy, other, "", 1)
		r.changes(t, policy+aside, map[string]int{"port_forward other: would be dropped by forward default": 1})
		r.GW.Up("eth1")
		if ip.v6() {
			r.GW.Run(t, "ip", "address", "replace", ip.gwLAN+"/64", "dev", "eth1", "nodad")
		}
		for _, c := range []*lab.Conn{out, in} {
			carries(t, c)
		}
		leavesAs(t, u, ip.uplink)
		r.changes(t, strings.ReplaceAll(policy, bracketed(ip.lan1)+":80", bracketed(ip.lan2)+":80"), map[string]int{"port_forward game: would go to " + at(ip.lan2, 80): 1})
		carries(t, out)
	})
}

// Where the rules of the policy before were not in force, it does not matter
// what they would have said.
func TestReconcileFlushed(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		policy := calm + "  - {name: lan, from: lan, to: wan}\n"
		r := reconciling(t, ip, policy, lab.InsideRoutes())
		listens(r.Server, 80)
		listens(r.LAN1, 80)
		r.GW.Feed(t, "table inet foreign { chain forward { type filter hook forward priority filter; ct state new counter; }; }", "nft", "-f", "-")
		if r.variant == "" {
			r.GW.Run(t, "nft", "delete", "table", "inet", "ipmasq")
		} else {
			r.wipes(t)
		}
		out, in := socket(t, r.LAN1, at(ip.outside, 80)), socket(t, r.Neighbor, at(ip.lan1, 80))
		leavesAs(t, out, ip.lan1)
		answered(t, in, at(ip.lan1, 80))
		c := r.reports(t, 0, "apply", policy+aside)
		if said := c.said(); said["masquerade lan: is not translated"] != 1 || said["forward default: would be dropped"] != 1 || c.Total != 2 {
			t.Errorf("cut %v", said)
		}
		leavesAs(t, out, ip.uplink)
		unanswered(t, in)
	})
}

// What goes through the gateway from one host of a network to another is cut
// like everything else: no bridge carries it, as none does between the peers of
// a tunnel.
func TestReconcileWithinNetwork(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		within := "forward: {rules: [{name: within, from: lan, to: lan, action: ACTION}]}\n"
		r := reconciling(t, ip, calm+strings.Replace(within, "ACTION", "accept", 1))
		bits := 32
		if ip.v6() {
			bits = 128
		} else {
			r.GW.Sysctl("net.ipv4.conf.all.send_redirects", "0")
			r.GW.Sysctl("net.ipv4.conf.eth1.send_redirects", "0")
		}
		for host, other := range map[*lab.Host]string{r.LAN1: ip.lan2, r.LAN2: ip.lan1} {
			host.Sysctl("net.ipv6.conf.eth0.accept_redirects", "0")
			host.Route(fmt.Sprintf("%s/%d", other, bits), ip.gwLAN)
		}
		listens(r.LAN2, 80)
		u := socket(t, r.LAN1, at(ip.lan2, 80))
		answered(t, u, at(ip.lan2, 80))
		r.changes(t, calm+strings.Replace(within, "ACTION", "drop", 1), map[string]int{"forward within: would be dropped": 1})
		unanswered(t, u)
	})
}

// What stays on a bridge is cut where br_netfilter shows it to the rules.
func TestReconcileBridged(t *testing.T) {
	lab.Require(t, lab.BrNetfilter())
	eachApart(t, func(t *testing.T, ip family) {
		rules := "forward: {rules: [{name: icmp, from: lan, protocol: icmpv6, action: accept}, {name: within, from: lan, to: lan, action: ACTION}]}\n"
		r := reconciling(t, ip, "", lab.BridgedLAN())
		r.GW.Sysctl("net.bridge.bridge-nf-call-iptables", "1")
		r.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", "1")
		r.apply(t, calm+strings.Replace(rules, "ACTION", "accept", 1))
		r.hold(t)
		listens(r.LAN2, 80)
		u := socket(t, r.LAN1, at(ip.lan2, 80))
		answered(t, u, at(ip.lan2, 80))
		r.changes(t, calm+strings.Replace(rules, "ACTION", "drop", 1), map[string]int{"forward within: would be dropped": 1})
		unanswered(t, u)
	})
}

// A link-local address tells the link by that of the gateway, of however many.
func TestReconcileLinkLocal(t *testing.T) {
	t.Parallel()
	ip := families()[1]
	r := reconciling(t, ip, "")
	r.GW.Down("eth1") // its route comes last then
	for i := range 12 {
		name := fmt.Sprintf("v%d", i)
		r.GW.Run(t, "ip", "link", "add", name, "type", "bridge")
		r.GW.Run(t, "ip", "address", "add", fmt.Sprintf("fe80::%d/64", i+1), "dev", name, "nodad")
		r.GW.Up(name)
	}
	r.GW.Up("eth1")
	r.GW.Run(t, "ip", "address", "add", "fe80::77/64", "dev", "eth1", "nodad")
	r.GW.ServeUDP(":53")
	rules := "input: {default: drop, rules: [{name: dns, from: lan, protocol: udp, ports: 53, action: ACTION}, {name: icmp, protocol: icmpv6, action: accept}]}\n"
	base := strings.Replace(calm, "[eth0]", "[eth0, \"v*\"]", 1)
	policy := base + strings.Replace(rules, "ACTION", "accept", 1)
	r.apply(t, policy)
	r.hold(t)
	u := socket(t, r.LAN1, "[fe80::77%eth0]:53")
	answered(t, u, "[fe80::77]:53")
	r.changes(t, policy+aside, map[string]int{})
	answered(t, u, "[fe80::77]:53")
	r.changes(t, base+strings.Replace(rules, "ACTION", "drop", 1), map[string]int{"input dns: would be dropped": 1})
	unanswered(t, u)
}

// A target that never stops goes on from another port than the client knows,
// and from one that the policy gives it.
func TestReconcileDivertedPorts(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		policy := func(target string) string {
			return calm + "  - {name: lan, from: lan, to: wan, outside_ports: 4000-4009}\n" +
				ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 4000, to: \""+target+"\"}\n")
		}
		r := reconciling(t, ip, policy("$lan1"))
		chatters(t, r.LAN1, 4000)
		chatters(t, r.LAN2, 4000)
		c := talks(t, r.Neighbor, at(ip.uplink, 4000))
		c.hears(t, "lan1")
		r.changes(t, policy("$lan2"), map[string]int{"port_forward game: would go to " + at(ip.lan2, 4000): 1})
		r.Settle()
		c.forget()
		seen := r.Neighbor.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.Not(lab.SrcPort(4000))))
		c.hears(t, "lan2")
		packets, err := seen.Wait(1, lab.Patience)
		if err != nil {
			t.Errorf("the first target is silent: %v", err)
		}
		for _, p := range packets {
			if p.SrcPort < 4000 || p.SrcPort > 4009 {
				t.Errorf("%s", p)
			}
		}
	})
}
