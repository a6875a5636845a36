package packet

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// landed goes to remote and gives where it was answered.
func landed(t *testing.T, proto string, h *lab.Host, remote string, opts ...lab.DialOption) string {
	t.Helper()
	seen, _, err := talk(proto, h, remote, opts...)
	if err != nil {
		t.Fatalf("%s to %s %s: %v", h.Name(), proto, remote, err)
	}
	return seen.Local.String()
}

// Each new flow goes to the next target, whichever host or protocol it is of,
// and stays there.
func TestPortForwardInTurn(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.InsideRoutes())
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 8080)
	listens(topo.LAN2, 80, 8080)
	listens(topo.DMZ, 80, 8080)
	each(t, func(t *testing.T, ip family) {
		web := `  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: ["$lan1:80", "$lan2:80", "$dmz"]}` + "\n"
		g.apply(t, zones+"masquerade: [{from: [lan, dmz], to: wan}]\n"+ip.forwards(web))
		leak := topo.GW.Capture("eth0", lab.All(lab.Outgoing, lab.SrcIn(ip.lanNet)))
		remote, targets := at(ip.uplink, 8080), []string{at(ip.lan1, 80), at(ip.lan2, 80), at(ip.dmz, 8080)}
		for i := range 9 {
			out := []*lab.Host{topo.Neighbor, topo.Server}[i%2]
			lands(t, "tcp", out, remote, targets[i%3], "")
		}
		var flows []*lab.UDPConn
		for i := range 9 {
			c, err := topo.Neighbor.DialUDP(remote)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			flows = append(flows, c)
			if seen, err := c.Exchange(lab.Patience, "first"); err != nil || seen.Local.String() != targets[i%3] {
				t.Errorf("UDP flow %d: answered at %v (%v), want %s", i, seen.Local, err, targets[i%3])
			}
		}
		for i, c := range flows {
			if seen, err := c.Exchange(lab.Patience, "again"); err != nil || seen.Local.String() != targets[i%3] {
				t.Errorf("UDP flow %d, a second time: answered at %v (%v), want %s", i, seen.Local, err, targets[i%3])
			}
		}
		if n := g.entry(t, "port_forward web").NewFlows; n != 18 {
			t.Errorf("status counts %d new flows, want 18", n)
		}

		// What is not a target's own way stays closed.
		together(
			func() { unheard(t, topo.Neighbor, at(ip.lan1, 80), at(ip.lan2, 80), at(ip.dmz, 8080)) },
			func() { unheard(t, topo.DMZ, at(ip.lan1, 80), at(ip.lan1, 8080), at(ip.lan2, 8080)) },
			func() { unheard(t, topo.Neighbor, at(ip.dmz, 80), at(ip.lan1, 8080)) },
		)

		if g.variant == "iptables-legacy" {
			return // turns begin anew with each commit, as the table is one for the kernel
		}
		// Whose turn it is outlives an apply that leaves the entry alone.
		lands(t, "tcp", topo.Neighbor, remote, targets[0], "")
		long := opens(t, topo.Neighbor, remote, ip.neighbor)
		g.apply(t, zones+"masquerade: [{from: [lan, dmz], to: wan}]\n"+ip.forwards(web+`  - {name: more, from: wan, protocol: tcp, ports: 81, to: "$lan1"}`+"\n"))
		carries(t, long)
		lands(t, "udp", topo.Neighbor, remote, targets[2], "")
		lands(t, "tcp", topo.Neighbor, remote, targets[0], "")

		// One more target: whoever is there stays, and turns begin anew.
		g.apply(t, zones+"masquerade: [{from: [lan, dmz], to: wan}]\n"+ip.forwards(strings.Replace(web, `"$dmz"`, `"$dmz", "$lan2:8080"`, 1)))
		carries(t, long)
		for _, target := range append(targets, at(ip.lan2, 8080)) {
			lands(t, "tcp", topo.Neighbor, remote, target, "")
		}
		// One less gets no new flows.
		g.apply(t, zones+ip.forwards(`  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: ["$lan1:80", "$dmz"]}`+"\n"))
		for i := range 4 {
			lands(t, "tcp", topo.Server, remote, []string{targets[0], targets[2]}[i%2], "")
		}
		if long != nil {
			long.Abort()
		}
		leak.Sync()
		if leak.Count() != 0 {
			t.Errorf("left with an inside address: %v", leak)
		}
	})
	g.delete(t)
}

// A target may keep the port, change it, or shift a range, beside others that
// do it otherwise; and a list may have targets of both families.
func TestPortForwardTargetForms(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 9000, 9003, 9010, 4000)
	listens(topo.LAN2, 8000, 8003, 8010, 4000, 4321)
	listens(topo.DMZ, 80)
	second := map[string]string{"IPv4": "203.0.113.5", "IPv6": "2001:db8:113::5"}
	topo.GW.Addr("eth0", second["IPv4"]+"/24", second["IPv6"]+"/64")
	four, six := families()[0], families()[1]
	policy := zones + `port_forward:
  - {name: mixed, from: wan, protocol: [tcp, udp], ports: 8000-8010, except_ports: 8005, to: ["` +
		strings.Join([]string{
			four.lan1 + ":9000-9010", at(six.dmz, 80), four.lan2, "[" + six.lan1 + "]:9000-9010", at(four.dmz, 80), six.lan2,
		}, `", "`) + `"]}
  - {name: all, from: wan, protocol: tcp, ports: all, address: ["` + second["IPv4"] + `", "` + second["IPv6"] + `"], to: ["` +
		strings.Join([]string{four.lan1, at(four.lan2, 4321), six.lan1}, `", "`) + `"]}
`
	g.apply(t, policy)
	each(t, func(t *testing.T, ip family) {
		for _, proto := range []string{"tcp", "udp"} {
			for i, port := range []int{8003, 8000, 8010} {
				want := []string{at(ip.lan1, 1000+port), at(ip.lan2, port), at(ip.dmz, 80)}
				if ip.v6() {
					want = []string{want[2], want[0], want[1]}
				}
				for range 3 {
					if got := landed(t, proto, topo.Neighbor, at(ip.uplink, port)); got != want[0] {
						t.Errorf("%s %d, round %d: landed at %s, want %s", proto, port, i, got, want[0])
					}
					want = append(want[1:], want[0])
				}
			}
		}
		for _, port := range []int{7999, 8005, 8011} {
			fails(t, topo.Neighbor, at(ip.uplink, port), lab.IsRefused)
		}
		// All ports: one target of IPv6 has them all.
		remote := at(second[ip.name], 4000)
		for _, v4 := range []string{at(four.lan1, 4000), at(four.lan2, 4321)} {
			want := v4
			if ip.v6() {
				want = at(ip.lan1, 4000)
			}
			lands(t, "tcp", topo.Server, remote, want, "")
		}
	})
	g.delete(t)
}

// Inside hosts and the gateway take their turns too. A target sees the client,
// unless the answer would go past the gateway, or the entry hides it.
func TestPortForwardTargetsSeen(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	for _, h := range []*lab.Host{topo.LAN1, topo.LAN2, topo.DMZ} {
		listens(h, 80)
	}
	each(t, func(t *testing.T, ip family) {
		for name, c := range map[string]struct {
			more string
			peer func(client *lab.Host, target string) string
		}{
			"plain": {"", func(client *lab.Host, target string) string {
				if (client == topo.LAN1 || client == topo.LAN2) && target != ip.dmz {
					return ip.gwLAN
				}
				return ""
			}},
			"outside": {", hairpin: {zones: [lan, dmz], source: outside}", func(client *lab.Host, target string) string {
				if client != topo.Neighbor && target != ip.dmz {
					return ip.uplink
				}
				return ""
			}},
			"masquerade": {", masquerade: true", func(client *lab.Host, target string) string {
				if target == ip.dmz {
					return ip.gwDMZ
				}
				return ip.gwLAN
			}},
		} {
			t.Run(name, func(t *testing.T) {
				g.apply(t, zones+ip.forwards(`  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: ["$lan1:80", "$lan2:80", "$dmz:80"]`+c.more+"}\n"))
				clients := []*lab.Host{topo.Neighbor, topo.LAN1, topo.LAN2, topo.GW}
				if name == "outside" {
					clients = clients[:3]
				}
				for _, client := range clients {
					for _, proto := range []string{"tcp", "udp"} {
						for _, target := range []string{ip.lan1, ip.lan2, ip.dmz} {
							lands(t, proto, client, at(ip.uplink, 8080), at(target, 80), c.peer(client, target))
						}
					}
				}
			})
		}
	})
	g.delete(t)
}

// Entries for the same port go by order, with several targets as with one; each
// has turns of its own.
func TestPortForwardTargetsBySource(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	for _, h := range []*lab.Host{topo.LAN1, topo.LAN2, topo.DMZ} {
		listens(h, 80, 81, 82)
	}
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+"sets: {near: [\""+ip.isp+"\"]}\n"+ip.forwards(`
  - {name: one, from: wan, sources: "NEIGHBOR", protocol: [tcp, udp], ports: 80, to: ["$lan1", "$lan2"]}
  - {name: near, from: wan, sources: "@near", protocol: [tcp, udp], ports: 80, to: "$dmz:82"}
  - {name: rest, from: wan, protocol: [tcp, udp], ports: 80, to: ["$lan1:81", "$dmz:81"]}
  - {name: only, from: wan, except_sources: "NEIGHBOR", protocol: [tcp, udp], ports: 90, to: ["$lan1:80", "$dmz:80"]}
`, "NEIGHBOR", ip.neighbor))
		for _, proto := range []string{"tcp", "udp"} {
			for i := range 4 {
				lands(t, proto, topo.Neighbor, at(ip.uplink, 80), at([]string{ip.lan1, ip.lan2}[i%2], 80), "")
				lands(t, proto, topo.ISP, at(ip.uplink, 80), at(ip.dmz, 82), "")
				lands(t, proto, topo.Server, at(ip.uplink, 80), at([]string{ip.lan1, ip.dmz}[i%2], 81), "")
				lands(t, proto, topo.Server, at(ip.uplink, 90), at([]string{ip.lan1, ip.dmz}[i%2], 80), "")
			}
			if _, _, err := talk(proto, topo.Neighbor, at(ip.uplink, 90)); !lab.IsRefused(err) {
				t.Errorf("%s of one who may not: %v", proto, err)
			}
		}
		for name, want := range map[string]uint64{"one": 8, "near": 8, "rest": 8, "only": 8} {
			if n := g.entry(t, "port_forward "+name).NewFlows; n != want {
				t.Errorf("%s counts %d new flows, want %d", name, n, want)
			}
		}
	})
	g.delete(t)
}

// The gateway's own connections take turns with those that come in; those to a
// loopback address take theirs apart.
func TestPortForwardTargetsLoopback(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	listens(topo.LAN2, 8080)
	each(t, func(t *testing.T, ip family) {
		one, two := at(ip.lan1, 80), at(ip.lan2, 8080)
		turns := func(t *testing.T, self, peer string, own, others [2]string) {
			g.apply(t, zones+ip.forwards(`  - {name: web, from: wan, address: [SELF], protocol: [tcp, udp], ports: 80, to: ["$lan1", "$lan2:8080"]}`+"\n",
				"SELF", strings.Join(slices.Compact([]string{`"` + ip.uplink + `"`, `"` + self + `"`}), ", ")))
			before := g.entry(t, "port_forward web").NewFlows
			for _, proto := range []string{"tcp", "udp"} {
				for i := range 4 {
					lands(t, proto, topo.GW, at(self, 80), own[i%2], peer)
					lands(t, proto, topo.Neighbor, at(ip.uplink, 80), others[i%2], "")
				}
			}
			if n := g.entry(t, "port_forward web").NewFlows - before; n != 16 {
				t.Errorf("status counts %d new flows, want 16", n)
			}
		}
		t.Run("own", func(t *testing.T) { turns(t, ip.uplink, ip.uplink, [2]string{one, one}, [2]string{two, two}) })
		t.Run("loopback", func(t *testing.T) { turns(t, ip.loopback(), ip.gwLAN, [2]string{one, two}, [2]string{one, two}) })
	})
	g.delete(t)
}

// A limit is of all targets together, and what it stops takes no turn.
func TestPortForwardTargetsLimit(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	listens(topo.LAN2, 80)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+ip.forwards(`  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["$lan1", "$lan2"], max_connections: {total: 3}}`+"\n"))
		remote, targets := at(ip.uplink, 80), []string{at(ip.lan1, 80), at(ip.lan2, 80)}
		var open []*lab.Conn
		for i := range 3 {
			c := opens(t, topo.Neighbor, remote, ip.neighbor)
			if c == nil {
				return
			}
			if got := c.Seen().Local.String(); got != targets[i%2] {
				t.Errorf("connection %d: answered at %s, want %s", i, got, targets[i%2])
			}
			open = append(open, c)
		}
		fails(t, topo.Server, remote, lab.IsTimeout)
		for _, c := range open {
			carries(t, c)
			c.Abort()
		}
		lands(t, "tcp", topo.Server, remote, targets[1], "")
		if n := g.entry(t, "port_forward web").NewFlows; n != 4 {
			t.Errorf("status counts %d new flows, want 4", n)
		}
	})
	g.delete(t)
}

// Attributes take nothing from what an entry forwards, and add nothing to it.
func TestPortForwardAttributes(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t)
	g := untouched(t, topo)
	listens(topo.LAN1, 80, 8002, 9500, 9503)
	listens(topo.LAN2, 22, 80, 9005)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+"sets: {near: [\""+ip.neighbor+"\"]}\n"+ip.forwards(`
  - name: map
    from: wan
    map: {tcp/8001: "$lan1:80", tcp/8002: "$lan1", udp/9000-9010: "$lan2"}
    log: true
  - {name: shift, from: wan, protocol: [tcp, udp], ports: 8500-8503, except_ports: 8501, to: "$lan1:9500-9503", max_connections: {total: 100}}
  - {name: near, from: wan, sources: "@near", protocol: tcp, ports: 22, to: "$lan2", max_connections: {per_host: 100}}
  - {name: aimed, from: wan, address: "UPLINK", protocol: tcp, ports: 23, to: "$lan2:22", hairpin: {zones: lan}, log: {rate: 1/second}}
  - {name: plain, from: wan, protocol: tcp, ports: [22, 9001], to: "$lan2:80"}
`, "UPLINK", ip.uplink))
		for _, c := range []struct {
			proto  string
			from   *lab.Host
			port   int
			target string // "": the gateway itself refuses
			peer   string
		}{
			{"tcp", topo.Neighbor, 8001, at(ip.lan1, 80), ""}, {"udp", topo.Neighbor, 8001, "", ""},
			{"tcp", topo.DMZ, 8002, at(ip.lan1, 8002), ""}, {"tcp", topo.LAN2, 8002, at(ip.lan1, 8002), ip.gwLAN},
			{"udp", topo.GW, 9005, at(ip.lan2, 9005), ""}, {"tcp", topo.Neighbor, 9005, "", ""}, {"udp", topo.Neighbor, 9011, "", ""},
			{"tcp", topo.Neighbor, 8500, at(ip.lan1, 9500), ""}, {"udp", topo.Neighbor, 8503, at(ip.lan1, 9503), ""},
			{"tcp", topo.Neighbor, 8501, "", ""}, {"udp", topo.Neighbor, 8504, "", ""},
			{"tcp", topo.Neighbor, 22, at(ip.lan2, 22), ""}, {"tcp", topo.Server, 22, at(ip.lan2, 80), ""},
			{"tcp", topo.Server, 23, at(ip.lan2, 22), ""}, {"tcp", topo.LAN1, 23, at(ip.lan2, 22), ip.gwLAN}, {"tcp", topo.DMZ, 23, "", ""},
			{"tcp", topo.Server, 9001, at(ip.lan2, 80), ""},
		} {
			if c.target != "" {
				lands(t, c.proto, c.from, at(ip.uplink, c.port), c.target, c.peer)
			} else if _, _, err := talk(c.proto, c.from, at(ip.uplink, c.port)); !lab.IsRefused(err) {
				t.Errorf("%s of %s to port %d, which no entry forwards: %v", c.proto, c.from.Name(), c.port, err)
			}
		}
	})
	g.delete(t)
}
