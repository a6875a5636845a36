package packet

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// said waits for what was sent to go as far as it goes, and sees what has been
// logged of it: prefix, source and destination of each packet.
func said(t *testing.T, g *gateway, l *lab.NFLog, want ...string) {
	t.Helper()
	g.Settle()
	var got []string
	for _, m := range l.Logged() {
		got = append(got, fmt.Sprintf("%s%s > %s %d", m.Prefix, m.Packet.Src, m.Packet.Dst, m.Packet.DstPort))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// Each flow of an entry is logged once, as it came, under the name of the entry
// or what the policy says instead.
func TestLog(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	answering(topo.Server, topo.LAN1, topo.DMZ, topo.GW)
	g := applied(t, topo, zones+`
masquerade:
  - {name: out, from: lan, to: wan, log: {group: 5}}
  - {name: own, from: dmz, to: wan, log: {group: 65535, prefix: "from the dmz "}}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: "192.168.1.10:80", log: {group: 5}}
  - {name: web6, from: wan, protocol: tcp, ports: 8080, to: "[fd00:1::10]:80", log: {group: 5}}
redirect:
  - {name: proxy, from: lan, protocol: tcp, ports: 3128, to_port: 80, log: {group: 5}}
forward:
  rules:
    - {name: refused, from: lan, to: dmz, protocol: udp, action: reject, log: {group: 5}}
    - {name: let, from: lan, to: dmz, action: accept, log: {group: 5}}
    - {name: from-outside, from: wan, to: dmz, action: drop, log: {group: 5, prefix: "stopped: "}}
input:
  default: accept
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept, log: {group: 5}}
`)
	log, other := g.GW.NFLog(5), g.GW.NFLog(65535)
	line := func(prefix, from, to string, port int) string {
		return fmt.Sprintf("%s%s > %s %d", prefix, from, to, port)
	}
	each(t, func(t *testing.T, ip family) {
		conn := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		carries(t, conn)
		said(t, g, log, line("masquerade out: ", ip.lan1, ip.outside, 80), line("masquerade out: ", ip.lan1, ip.outside, 53))

		opens(t, g.DMZ, at(ip.outside, 80), ip.uplink)
		said(t, g, log)
		said(t, g, other, line("from the dmz ", ip.dmz, ip.outside, 80))

		opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
		name := "port_forward web: "
		if ip.v6() {
			name = "port_forward web6: "
		}
		said(t, g, log, line(name, ip.outside, ip.uplink, 8080))

		opens(t, g.LAN2, at(ip.outside, 3128), ip.lan2)
		said(t, g, log, line("redirect proxy: ", ip.lan2, ip.outside, 3128))

		failsUDP(t, g.LAN1, at(ip.dmz, 53), lab.IsRefused)
		opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		said(t, g, log, line("forward refused: ", ip.lan1, ip.dmz, 53), line("forward let: ", ip.lan1, ip.dmz, 80), line("input ssh: ", ip.lan1, ip.gwLAN, 22))

		fails(t, g.Server, at(ip.dmz, 80), lab.IsTimeout)
		said(t, g, log, line("stopped: ", ip.outside, ip.dmz, 80))
	})
	g.delete(t)
}

// No flood fills a log, and what is not logged passes all the same. What a flow
// sends before its first answer is no flow of its own.
func TestLogRate(t *testing.T) {
	for _, ip := range families() {
		t.Run(ip.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutGuest())
			g := applied(t, topo, zones+`
masquerade:
  - {name: out, from: lan, to: wan, log: {group: 5}}
forward:
  rules:
    - {name: let, from: lan, to: dmz, action: accept, log: {group: 5, rate: {limit: 1/hour, burst: 7}}}
    - {name: stopped, from: dmz, to: wan, action: drop, log: {group: 5, rate: 5/day}}
`)
			log := g.GW.NFLog(5)
			burst := func(h *lab.Host, from, to string, ports int) {
				var packets [][]byte
				for i := range 100 {
					packets = append(packets, lab.UDP{Header: lab.Between(from, to), SrcPort: uint16(1000 + i%ports), DstPort: 9}.Bytes())
				}
				h.Burst("eth0", packets)
				g.Settle()
			}
			arrived := g.DMZ.Capture("eth0", lab.All(lab.Incoming, lab.IsUDP))
			burst(g.LAN1, ip.lan1, ip.dmz, 1)
			if got := len(log.Logged()); got != 1 {
				t.Errorf("%d lines about one flow", got)
			}
			burst(g.LAN1, ip.lan1, ip.dmz, 100)
			if got := len(log.Logged()); got != 6 {
				t.Errorf("%d lines more, want the 6 that are left of 7", got)
			}
			if _, err := arrived.Wait(200, lab.Patience); err != nil {
				t.Error(err)
			}
			burst(g.DMZ, ip.dmz, ip.outside, 1)
			if got := len(log.Logged()); got != 5 {
				t.Errorf("%d lines about packets that are dropped, want 5", got)
			}
			// The default: ten a second, of which five may come at once.
			burst(g.LAN1, ip.lan1, ip.outside, 100)
			if got := len(log.Logged()); got < 5 || got > 15 {
				t.Errorf("%d lines in well under a second, want 5 or some more", got)
			}
			if e := g.entry(t, "masquerade out"); e.NewFlows != 100 {
				t.Errorf("status counts %+v, want 100 flows", e)
			}
			g.delete(t)
		})
	}
}
