package packet

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/flood"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// status is what status says of flows, as programs read it.
type status struct {
	FlowsCounted bool         `json:"flows_counted"`
	Entries      []statusFlow `json:"entries"`
	Warnings     []struct {
		About, Setting, Message string
		Used, Of, Suggested     uint64
	}
	Conntrack struct{ Count, Max uint64 }
}

type statusFlow struct {
	Section, Name string
	Open          *uint64 `json:"open_flows"`
	Packets       *uint64 `json:"open_packets"`
	Bytes         *uint64 `json:"open_bytes"`
	Limit         *struct {
		Total, Used *uint64
		PerHost     *uint64 `json:"per_host"`
		Busiest     *string `json:"busiest_host"`
		BusiestUsed *uint64 `json:"busiest_host_used"`
	}
	Targets []struct {
		Target string
		Flows  uint64
	}
	Pool *struct {
		InUse *int `json:"in_use"`
		Flows *int
	}
}

func (g *gateway) status(t *testing.T, args ...string) (s status) {
	t.Helper()
	out := g.ipmasq(t, 0, "status", append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// open gives how many flows each entry has open, of those that have any.
func (s status) open(t *testing.T) map[string]uint64 {
	t.Helper()
	open := map[string]uint64{}
	for _, e := range s.Entries {
		if e.Open == nil {
			t.Fatalf("the flows of %s %s are not counted", e.Section, e.Name)
		}
		if *e.Open > 0 {
			open[e.Section+" "+e.Name] = *e.Open
		}
	}
	return open
}

func (s status) entry(t *testing.T, name string) statusFlow {
	t.Helper()
	for _, e := range s.Entries {
		if e.Section+" "+e.Name == name {
			return e
		}
	}
	t.Fatalf("status knows no %s", name)
	return statusFlow{}
}

func sameCounts(t *testing.T, when string, got, want map[string]uint64) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %d flows of %s are open, want %d", when, got[name], name, want[name])
		}
	}
	for name, n := range got {
		if _, known := want[name]; !known {
			t.Errorf("%s: %d flows of %s are open, want none", when, n, name)
		}
	}
}

// ended removes flows from the gateway's table, by conntrack(8)'s filters.
func (g *gateway) ended(t *testing.T, ip family, filter ...string) {
	t.Helper()
	g.GW.Run(t, "conntrack", append([]string{"-D", "-f", strings.ToLower(ip.name)}, filter...)...)
}

// traffic adds up what conntrack(8) lists of some flows.
func (g *gateway) traffic(t *testing.T, ip family, filter ...string) (packets, bytes uint64) {
	t.Helper()
	list := g.GW.Run(t, "conntrack", append([]string{"-L", "-f", strings.ToLower(ip.name)}, filter...)...)
	for _, m := range regexp.MustCompile(`(packets|bytes)=(\d+)`).FindAllStringSubmatch(list, -1) {
		n, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if m[1] == "packets" {
			packets += n
		} else {
			bytes += n
		}
	}
	return packets, bytes
}

// Status counts what is open by the entry that translated it or let it pass,
// with limits, targets and pools; and no more when flows end.
func TestStatusOpenFlows(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	pool(t, topo, 40, 42)
	answering(topo.Server, topo.LAN1, topo.LAN2, topo.DMZ, topo.GW)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, strings.NewReplacer("$lan1", bracketed(ip.lan1), "$lan2", bracketed(ip.lan2), "$source", ip.lan2, "$family", strings.ToLower(ip.name), "$pool", ip.public(40)+"-"+ip.public(42)).Replace(zones+`
snat:
  - {name: pool, from: lan, to: wan, sources: "$source", addresses: "$pool", distribution: round-robin, max_connections: {per_host: 9}}
masquerade:
  - {name: nat, from: lan, to: wan, family: $family, max_connections: {total: 20, per_host: 10}}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: ["$lan1:80", "$lan2:80"]}
forward:
  rules: [{name: few, family: $family, from: lan, to: dmz, protocol: tcp, ports: 80, action: accept, max_connections: {total: 5}}]
input:
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept}
gateway: {conntrack: {accounting: true}}
`))
		g.Settle() // what the family before has closed
		g.GW.Run(t, "conntrack", "-F")
		for range 3 {
			opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		}
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		seen := map[string]bool{}
		for range 4 {
			seen[peer(t, "tcp", g.LAN2, at(ip.outside, 80), "").Addr().String()] = true
		}
		for range 3 {
			opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
		}
		opens(t, g.DMZ, at(ip.uplink, 8080), ip.dmz)
		opens(t, g.DMZ, at(ip.uplink, 8080), ip.dmz)
		for range 2 {
			opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		}
		opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1)
		if c, err := g.GW.DialTCP(lab.Patience, at(ip.outside, 80)); err != nil { // nobody's
			t.Error(err)
		} else {
			defer c.Close()
		}
		g.Settle()
		s := g.status(t)
		sameCounts(t, "open", s.open(t), map[string]uint64{"masquerade nat": 4, "snat pool": 4, "port_forward web": 5, "forward few": 2, "input ssh": 1})
		if s.Conntrack.Count < 17 {
			t.Errorf("%d flows in all, want at least 17", s.Conntrack.Count)
		}
		nat, few, web := s.entry(t, "masquerade nat"), s.entry(t, "forward few"), s.entry(t, "port_forward web")
		if l := nat.Limit; *l.Used != 4 || *l.Total != 20 || *l.PerHost != 10 || *l.Busiest != ip.lan1 || *l.BusiestUsed != 4 {
			t.Errorf("the limit of nat: %d of %d, %s %d of %d", *l.Used, *l.Total, *l.Busiest, *l.BusiestUsed, *l.PerHost)
		}
		if l := few.Limit; *l.Used != 2 || l.PerHost != nil || l.Busiest != nil {
			t.Errorf("the limit of few: %d, %v, %v", *l.Used, l.PerHost, l.Busiest)
		}
		if len(web.Targets) != 2 || web.Targets[0].Flows != 3 || web.Targets[1].Flows != 2 || web.Targets[0].Target != bracketed(ip.lan1)+":80" {
			t.Errorf("targets of web: %+v", web.Targets)
		}
		if p := s.entry(t, "snat pool").Pool; *p.InUse != 3 || *p.Flows != 4 || len(seen) != 3 {
			t.Errorf("the pool: %d addresses, %d flows; the server saw %v", *p.InUse, *p.Flows, seen)
		}
		packets, bytes := g.traffic(t, ip, "-s", ip.lan1, "-d", ip.outside)
		if *nat.Packets != packets || *nat.Bytes != bytes || packets < 11 {
			t.Errorf("nat carried %d packets and %d bytes, conntrack(8) says %d and %d", *nat.Packets, *nat.Bytes, packets, bytes)
		}

		g.ended(t, ip, "-p", "tcp", "-s", ip.lan1, "-d", ip.outside)
		g.ended(t, ip, "-s", ip.outside)
		s = g.status(t)
		sameCounts(t, "after some have ended", s.open(t), map[string]uint64{"masquerade nat": 1, "snat pool": 4, "port_forward web": 2, "forward few": 2, "input ssh": 1})
		if l := s.entry(t, "masquerade nat").Limit; *l.Used != 1 {
			t.Errorf("%d of the limit of nat are in use, want 1", *l.Used)
		}
		g.GW.Run(t, "conntrack", "-F")
		s = g.status(t)
		sameCounts(t, "after all have ended", s.open(t), nil)
		if p := s.entry(t, "snat pool").Pool; *p.InUse != 0 || *p.Flows != 0 {
			t.Errorf("the pool: %d addresses, %d flows", *p.InUse, *p.Flows)
		}
	})
	g.delete(t)
}

// A connection that has ended is in the table for a while, and takes no place
// of a limit: status says both.
func TestStatusLimitOfEnded(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	g := applied(t, topo, twoZones+"masquerade:\n"+eachFamily("  - {name: nat$n, family: $f, from: lan, to: wan, max_connections: {total: 5}}\n"))
	each(t, func(t *testing.T, ip family) {
		first := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		g.ends(t, first)
		if e := g.status(t).entry(t, "masquerade nat"+ip.number()); *e.Open != 2 || *e.Limit.Used != 1 {
			t.Errorf("%d open, %d in use; want 2 and 1", *e.Open, *e.Limit.Used)
		}
	})
	g.delete(t)
}

// A flow that a rule accepts and a masquerade translates is one of the
// masquerade, and takes a place of both limits.
func TestStatusLimitsOfTwo(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	listens(topo.LAN2, 80)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, twoZones+`
masquerade:
  - {name: nat, from: lan, to: wan, forward: false, max_connections: {per_host: 7}}
forward:
  rules: [{name: few, family: `+strings.ToLower(ip.name)+`, from: lan, to: wan, protocol: tcp, ports: 80, action: accept, max_connections: {total: 9, per_host: 8}}]
`+ip.forwards(`  - {name: web, from: wan, protocol: tcp, ports: 8080, to: "$lan2:80", max_connections: {total: 3}}`+"\n"))
		g.Settle() // what the family before has closed
		g.GW.Run(t, "conntrack", "-F")
		for range 2 {
			opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		}
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
		opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
		opens(t, g.LAN1, at(ip.uplink, 8080), ip.gwLAN) // the target sees the gateway
		g.Settle()
		s := g.status(t)
		for name, want := range map[string]struct{ open, used uint64 }{
			"masquerade nat": {3, 3}, "forward few": {0, 3}, "port_forward web": {2, 2},
		} {
			if e := s.entry(t, name); *e.Open != want.open || *e.Limit.Used != want.used {
				t.Errorf("%s: %d open and %d in use, want %d and %d", name, *e.Open, *e.Limit.Used, want.open, want.used)
			}
		}
		if l := s.entry(t, "forward few").Limit; *l.Busiest != ip.lan1 || *l.BusiestUsed != 2 {
			t.Errorf("the busiest host is %s with %d", *l.Busiest, *l.BusiestUsed)
		}
	})
	g.delete(t)
}

// What is nearly full is said, with what to change: a limit, and the outside
// ports for one destination.
func TestStatusNearlyFull(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	g := applied(t, topo, twoZones+"masquerade:\n"+
		eachFamily("  - {name: few$n, family: $f, from: lan, to: wan, outside_ports: 50000-50009, max_connections: {total: 14}}\n"))
	each(t, func(t *testing.T, ip family) {
		g.GW.Run(t, "conntrack", "-F")
		asks(t, g.LAN2, at(ip.outside, 123), ip.uplink)
		for range 7 {
			asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		}
		if w := g.status(t).Warnings; len(w) != 0 {
			t.Errorf("warnings at 7 of 10 ports: %+v", w)
		}
		asks(t, g.LAN2, at(ip.outside, 53), ip.uplink)
		w := g.status(t).Warnings
		if want := "8 of the 10 outside ports of " + ip.uplink + " are taken towards udp " + at(ip.outside, 53) + ";"; len(w) != 1 ||
			w[0].About != "masquerade few"+ip.number() || w[0].Used != 8 || w[0].Of != 10 || !strings.HasPrefix(w[0].Message, want) {
			t.Errorf("warnings at 8 of 10 ports: %+v", w)
		}
		for range 3 {
			asks(t, g.LAN2, at(ip.outside, 123), ip.uplink)
		}
		w = g.status(t).Warnings
		if len(w) != 2 || w[1].Setting != "max_connections.total" || w[1].Used != 12 || w[1].Of != 14 || w[1].Suggested != 28 {
			t.Errorf("warnings at 12 of 14 connections: %+v", w)
		}
	})
	g.delete(t)
}

// Where there are many flows status does not read them to count them, unless it
// is asked to; what it does not know is null, and not 0.
func TestStatusOfMany(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := applied(t, topo, twoZones+`
snat:
  - {name: pool, from: lan, to: wan, sources: 192.168.1.11, addresses: 203.0.113.40, forward: false, max_connections: {total: 9}}
masquerade:
  - {name: nat, from: lan, to: wan}
`)
	fill := func(first, last int) {
		err := g.GW.Do(func() error {
			return flood.Fill(last-first, func(i int, e *flood.Entry) {
				i += first
				port, outside, became := uint16(1024+i%50000), lab.Outside, lab.GatewayUplink
				inside := lab.LAN1
				if i%2 == 1 {
					inside, outside, became = lab.LAN1v6, lab.Outsidev6, lab.GatewayUplinkv6
				}
				e.Protocol = unix.IPPROTO_UDP
				e.Source, e.Destination = netip.AddrPortFrom(netip.MustParseAddr(inside), port), netip.AddrPortFrom(netip.MustParseAddr(outside), 443)
				e.SNAT = netip.AddrPortFrom(netip.MustParseAddr(became), 0)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(0, 5000)
	if s := g.status(t); !s.FlowsCounted || *s.entry(t, "masquerade nat").Open != 5000 {
		t.Errorf("5000 flows: counted: %v", s.FlowsCounted)
	}
	fill(5000, 5001)
	s := g.status(t)
	pool := s.entry(t, "snat pool")
	if s.FlowsCounted || s.Conntrack.Count != 5001 || pool.Open != nil || pool.Limit.Used != nil || pool.Pool.InUse != nil || *pool.Limit.Total != 9 {
		t.Errorf("5001 flows: counted: %v, %d of all, %+v", s.FlowsCounted, s.Conntrack.Count, pool)
	}
	series, d := g.scrape(t, 0)
	agree(t, series, d)
	if _, told := series[`ipmasq_entry_open_flows{entry="nat",section="masquerade"}`]; told || series["ipmasq_flows_counted{}"] != 0 || series["ipmasq_conntrack_entries{}"] != 5001 {
		t.Errorf("5001 flows, as metrics: %v", series)
	}
	s = g.status(t, "--flows")
	pool = s.entry(t, "snat pool")
	if !s.FlowsCounted || *pool.Open != 0 || *pool.Limit.Used != 0 || *pool.Pool.InUse != 0 {
		t.Errorf("5001 flows, with --flows: counted: %v, %+v", s.FlowsCounted, pool)
	}
	sameCounts(t, "with --flows", s.open(t), map[string]uint64{"masquerade nat": 5001})
	g.GW.Run(t, "conntrack", "-F")
	g.delete(t)
}
