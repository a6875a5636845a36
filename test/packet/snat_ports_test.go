package packet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Each inside host has its own ports, in ascending order of addresses, through
// the pool in the order in which it is written: the number of a host tells
// them. Protocols without ports have the address alone.
func TestSNATBlocks(t *testing.T) {
	t.Parallel()
	const (
		perHost, firstPort = 8, 40000
		hosts              = 5 // 10 to 14; three blocks an address
	)
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 42)
	for _, ip := range families() {
		hold(topo.LAN1, ip.inside, 12, 14)
	}
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
snat:
  - name: shared
    from: lan
    to: wan
    sources: [192.168.1.10-192.168.1.14, "fd00:1::10-fd00:1::14"]
    addresses: [203.0.113.42, 203.0.113.40, "2001:db8:113::42", "2001:db8:113::40"]
    outside_ports: 40000-40023
    ports_per_host: 8
`)
	leaks := g.leaks(t)
	each(t, func(t *testing.T, ip family) {
		hostOf := func(i int) *lab.Host {
			if i == 1 {
				return g.LAN2
			}
			return g.LAN1
		}
		for i := range hosts {
			h, local := hostOf(i), ip.inside(10+i)
			public, first := ip.public([]int{42, 40}[i/3]), firstPort+i%3*perHost
			for _, proto := range []string{"tcp", "udp"} {
				remote := at(ip.outside, map[string]int{"tcp": 80, "udp": 53}[proto])
				kept := at(local, first+5)
				if got := peer(t, proto, h, remote, kept).String(); got != at(public, first+5) {
					t.Errorf("%s, a port of the block of host %d, is seen as %s", kept, i, got)
				}
				seen := map[uint16]bool{uint16(first + 5): true}
				for n := range perHost - 1 {
					from := at(local, 5000+n)
					got := peer(t, proto, h, remote, from)
					if got.Addr().String() != public || int(got.Port()) < first || int(got.Port()) >= first+perHost || seen[got.Port()] {
						t.Errorf("%s %s is seen as %s, want an unused port of %s:%d-%d", proto, from, got, public, first, first+perHost-1)
					}
					seen[got.Port()] = true
				}
			}
			out := g.GW.Count("eth0", lab.All(lab.Outgoing, lab.IsICMP, lab.SrcIn(public)))
			if _, err := h.Ping(ip.outside, lab.Patience, lab.PingOptions{ID: 77, From: local}); err != nil {
				t.Errorf("%s pings: %v", local, err)
			}
			if out.Sync(); out.Count() != 1 {
				t.Errorf("%d pings of %s left from %s", out.Count(), local, public)
			}
			out.Stop()
		}
		// A block is all that a host has; its neighbours have theirs.
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout, lab.From(at(ip.inside(10), 6000)))
		// To somebody else the same ports are free.
		if got := peer(t, "tcp", g.LAN1, at(ip.outside, 81), at(ip.inside(10), 6001)); got.Port() < firstPort || got.Port() >= firstPort+perHost {
			t.Errorf("to another port of the server: %s", got)
		}
	})
	leaks.none(t)
	g.delete(t)
}

// conntrackStatus is what status says of connection tracking.
type conntrackStatus struct {
	InsertFailed uint64 `json:"insert_failed"`
	Dropped      uint64 `json:"dropped"`
	Exhausted    string `json:"exhausted"`
}

// poolStatus is what status says of a pool.
type poolStatus struct {
	Addresses []string `json:"addresses"`
	InUse     int      `json:"in_use"`
	Flows     int      `json:"flows"`
}

// flowStatus reads what status says of connection tracking, and of the pools.
func (g *gateway) flowStatus(t *testing.T) (conntrackStatus, map[string]*poolStatus) {
	t.Helper()
	var status struct {
		Conntrack conntrackStatus
		Entries   []struct {
			Section, Name string
			Pool          *poolStatus
		}
	}
	if err := json.Unmarshal([]byte(g.ipmasq(t, 0, "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	pools := map[string]*poolStatus{}
	for _, e := range status.Entries {
		if e.Pool != nil {
			pools[e.Section+" "+e.Name] = e.Pool
		}
	}
	return status.Conntrack, pools
}

// Where no outside port is free the kernel says nothing; status does.
func TestOutsidePortsExhausted(t *testing.T) {
	for _, c := range []struct {
		name, policy, entry string
		public              int // 0: the uplink's address
	}{
		{"snat", `snat: {name: small, from: lan, to: wan, addresses: [203.0.113.40, "2001:db8:113::40"], outside_ports: 40000-40003}`, "snat small", 40},
		{"masquerade", `masquerade: {name: small, from: lan, to: wan, outside_ports: 40000-40003}`, "masquerade small", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
			pool(t, topo, 40, 40)
			answering(topo.Server)
			g := applied(t, topo, twoZones+c.policy+"\n")
			leaks := g.leaks(t)
			if now, _ := g.flowStatus(t); now != (conntrackStatus{}) {
				t.Errorf("before anything failed: %+v", now)
			}
			each(t, func(t *testing.T, ip family) {
				public := ip.uplink
				if c.public != 0 {
					public = ip.public(c.public)
				}
				before, _ := g.flowStatus(t)
				seen := map[uint16]bool{}
				for range 4 {
					got := peer(t, "tcp", g.LAN1, at(ip.outside, 80), "")
					if got.Addr().String() != public || got.Port() < 40000 || got.Port() > 40003 || seen[got.Port()] {
						t.Errorf("the server saw %s", got)
					}
					seen[got.Port()] = true
				}
				fails(t, g.LAN2, at(ip.outside, 80), lab.IsTimeout)
				after, _ := g.flowStatus(t)
				if after.InsertFailed <= before.InsertFailed || after.Dropped <= before.Dropped {
					t.Errorf("the fifth flow was dropped, and %+v became %+v", before, after)
				}
				if want := "no free outside port"; !strings.HasPrefix(after.Exhausted, want) || !strings.Contains(after.Exhausted, c.entry) {
					t.Errorf("status says %q, want %q and %q", after.Exhausted, want, c.entry)
				}
				if text := g.ipmasq(t, 0, "status"); !strings.Contains(text, after.Exhausted) {
					t.Errorf("the table lacks %q:\n%s", after.Exhausted, text)
				}
				// What has no ports has none to run out of, and another server has all.
				pings(t, g.LAN2, ip.outside)
				tcp(g.LAN2, ip.outside, 81).sees(t, public)
			})
			leaks.none(t)
			g.delete(t)
		})
	}
}

// Status says how much of each pool is in use.
func TestPoolsInUse(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	pool(t, topo, 40, 45)
	answering(topo.Server)
	g := applied(t, topo, twoZones+`
snat:
  - {name: web, from: lan, to: wan, protocol: tcp, addresses: [203.0.113.40, 203.0.113.42, "2001:db8:113::40"], distribution: round-robin}
  - {name: rest, from: lan, to: wan, addresses: [203.0.113.44-203.0.113.45, "2001:db8:113::44-2001:db8:113::45"]}
`)
	for _, ip := range families() {
		for range 3 {
			peer(t, "tcp", g.LAN1, at(ip.outside, 80), "")
		}
		peer(t, "udp", g.LAN1, at(ip.outside, 53), "")
	}
	_, pools := g.flowStatus(t)
	for name, want := range map[string]poolStatus{
		"snat web":  {[]string{"203.0.113.40", "203.0.113.42", "2001:db8:113::40"}, 3, 6},
		"snat rest": {[]string{"203.0.113.44/31", "2001:db8:113::44/127"}, 2, 2},
	} {
		if got := pools[name]; got == nil || fmt.Sprint(*got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if text := g.ipmasq(t, 0, "status"); !strings.Contains(text, "pool        snat web: 3 in use of 203.0.113.40 203.0.113.42 2001:db8:113::40, 6 flows\n") {
		t.Errorf("status:\n%s", text)
	}
	if out := g.ipmasq(t, 0, "delete", "-o", "json"); !strings.Contains(out, `"flows_cut": 8,`) {
		t.Errorf("delete cut other flows than the pools had:\n%s", out)
	}
	g.delete(t)
}
