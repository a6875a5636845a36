package packet

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// scrape gives what status prints for Prometheus, by series, and what it says in
// JSON of the same moment.
func (g *gateway) scrape(t *testing.T, code int) (series map[string]float64, said document) {
	t.Helper()
	for range 10 {
		before := g.ipmasq(t, code, "status", "-o", "json")
		text := g.ipmasq(t, code, "status", "-o", "prometheus")
		if after := g.ipmasq(t, code, "status", "-o", "json"); before != after {
			continue // a flow has come or gone, and nobody knows when
		}
		if err := json.Unmarshal([]byte(before), &said); err != nil {
			t.Fatal(err)
		}
		return readSeries(t, text), said
	}
	t.Fatal("the host never stays as it is while status runs")
	return nil, document{}
}

var sample = regexp.MustCompile(`^(ipmasq_[a-z_]+)(?:\{(.*)\})? (\S+)$`)

func readSeries(t *testing.T, text string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sample.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("%q is no sample", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if _, twice := out[m[1]+"{"+m[2]+"}"]; err != nil || twice {
			t.Fatalf("%q: twice %v, %v", line, twice, err)
		}
		out[m[1]+"{"+m[2]+"}"] = value
	}
	return out
}

// document is what status says in JSON, as far as metrics say it too.
type document struct {
	InForce    bool `json:"in_force"`
	Policy     struct{ Digest string }
	Forwarding struct{ IPv4, IPv6 bool }
	Uplinks    []struct {
		Zone, Interface string
		Up              bool
		Addresses       []string
	}
	FlowsCounted bool `json:"flows_counted"`
	Conntrack    struct {
		Count, Max   float64
		InsertFailed float64 `json:"insert_failed"`
		Dropped      float64
		EarlyDropped float64 `json:"early_dropped"`
	}
	Entries      []saidEntry
	Drifted      bool
	Drift        []any
	SysctlDrift  []any `json:"sysctl_drift"`
	RoutingDrift []any `json:"routing_drift"`
	Warnings     []any
}

type saidEntry struct {
	Section, Name  string
	NewFlows       float64  `json:"new_flows"`
	RefusedPackets float64  `json:"refused_packets"`
	RefusedBytes   float64  `json:"refused_bytes"`
	LeaksStopped   float64  `json:"leaks_stopped"`
	LimitStopped   float64  `json:"limit_stopped"`
	OpenFlows      *float64 `json:"open_flows"`
	OpenPackets    *float64 `json:"open_packets"`
	OpenBytes      *float64 `json:"open_bytes"`
	Limit          *struct {
		Total, Used *float64
		PerHost     *float64 `json:"per_host"`
		BusiestUsed *float64 `json:"busiest_host_used"`
	}
	Pool *struct {
		InUse *float64 `json:"in_use"`
		Flows *float64
	}
}

// series are what metrics must be where status says that. Of counters that are 0
// some are absent, of rows that can have none.
func (d document) series() (exact, counters map[string]float64) {
	truth := map[bool]float64{true: 1}
	exact = map[string]float64{
		"ipmasq_in_force{}": truth[d.InForce],
		`ipmasq_policy_info{digest="` + d.Policy.Digest + `"}`: 1,
		`ipmasq_forwarding_enabled{family="ipv4"}`:             truth[d.Forwarding.IPv4],
		`ipmasq_forwarding_enabled{family="ipv6"}`:             truth[d.Forwarding.IPv6],
		"ipmasq_flows_counted{}":                               truth[d.FlowsCounted],
		"ipmasq_conntrack_entries{}":                           d.Conntrack.Count,
		"ipmasq_conntrack_entries_limit{}":                     d.Conntrack.Max,
		"ipmasq_conntrack_insert_failed_total{}":               d.Conntrack.InsertFailed,
		"ipmasq_conntrack_dropped_total{}":                     d.Conntrack.Dropped,
		"ipmasq_conntrack_early_dropped_total{}":               d.Conntrack.EarlyDropped,
		"ipmasq_drift{}":                                       truth[d.Drifted],
		`ipmasq_drift_changes{kind="entries"}`:                 float64(len(d.Drift)),
		`ipmasq_drift_changes{kind="sysctls"}`:                 float64(len(d.SysctlDrift)),
		`ipmasq_drift_changes{kind="routing"}`:                 float64(len(d.RoutingDrift)),
		"ipmasq_warnings{}":                                    float64(len(d.Warnings)),
	}
	counters = map[string]float64{}
	for _, u := range d.Uplinks {
		labels := fmt.Sprintf("interface=%q,zone=%q}", u.Interface, u.Zone)
		exact["ipmasq_uplink_up{"+labels] = truth[u.Up]
		v4 := 0
		for _, a := range u.Addresses {
			if !strings.Contains(a, ":") {
				v4++
			}
		}
		exact[`ipmasq_uplink_addresses{family="ipv4",`+labels] = float64(v4)
		exact[`ipmasq_uplink_addresses{family="ipv6",`+labels] = float64(len(u.Addresses) - v4)
	}
	sections := map[string]float64{}
	for _, e := range d.Entries {
		sections[e.Section]++
		name := func(metric string) string {
			return fmt.Sprintf("ipmasq_entry_%s{entry=%q,section=%q}", metric, e.Name, e.Section)
		}
		counters[name("new_flows_total")] = e.NewFlows
		counters[name("refused_packets_total")] = e.RefusedPackets
		counters[name("refused_bytes_total")] = e.RefusedBytes
		counters[name("leaks_stopped_total")] = e.LeaksStopped
		counters[name("limit_stopped_packets_total")] = e.LimitStopped
		for metric, value := range map[string]*float64{"open_flows": e.OpenFlows, "open_flows_packets": e.OpenPackets, "open_flows_bytes": e.OpenBytes} {
			if value != nil {
				counters[name(metric)] = *value // of rows that refuse there are none
			}
		}
		values := map[string]*float64{}
		if l := e.Limit; l != nil {
			values = map[string]*float64{"max_connections": l.Total, "connections": l.Used, "max_connections_per_host": l.PerHost, "busiest_host_connections": l.BusiestUsed}
		}
		if e.Pool != nil {
			values["pool_flows"] = e.Pool.Flows
		}
		for metric, value := range values {
			if value != nil {
				exact[name(metric)] = *value
			}
		}
	}
	for section, n := range sections {
		exact[fmt.Sprintf("ipmasq_entries{section=%q}", section)] = n
	}
	return exact, counters
}

// unsaid are metrics that the JSON has not, or has in another form.
var unsaid = []string{"ipmasq_up", "ipmasq_build_info", "ipmasq_policy_applied_timestamp_seconds", "ipmasq_conntrack_accounting_enabled",
	"ipmasq_entry_pool_addresses", "ipmasq_entry_pool_addresses_in_use"}

// agree sees that metrics say what status says, no less and no more.
func agree(t *testing.T, series map[string]float64, d document) {
	t.Helper()
	exact, counters := d.series()
	for name, want := range exact {
		if got, known := series[name]; !known || got != want {
			t.Errorf("%s is %v (there: %v), and status says %v", name, got, known, want)
		}
	}
	for name, want := range counters {
		if got := series[name]; got != want {
			t.Errorf("%s is %v, and status says %v", name, got, want)
		}
	}
	for name := range series {
		metric, _, _ := strings.Cut(name, "{")
		_, a := exact[name]
		_, b := counters[name]
		switch {
		case a || b || slices.Contains(unsaid, metric):
		case strings.HasPrefix(name, `ipmasq_drift_changes{kind="structure"`): // which status sums up in a line
		default:
			t.Errorf("status does not say %s", name)
		}
	}
}

// What Prometheus would get is what status says, of real traffic in both
// families: flows, refusals, leaks, limits, pools and drift.
func TestMetrics(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("nft"))
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.InsideRoutes())
	pool(t, topo, 40, 42)
	answering(topo.Server, topo.LAN1, topo.LAN2, topo.DMZ)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, strings.NewReplacer("$lan2", ip.lan2, "$lan1", bracketed(ip.lan1), "$pool", ip.public(40)+"-"+ip.public(42), "$family", strings.ToLower(ip.name)).Replace(zones+`
snat:
  - {name: pool, from: lan, to: wan, sources: "$lan2", addresses: "$pool", distribution: round-robin}
masquerade:
  - {name: nat, family: $family, from: lan, to: wan, max_connections: {total: 3, per_host: 9}}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: "$lan1:80"}
gateway: {conntrack: {accounting: true}}
`))
		g.Settle() // what the family before has closed
		before, _ := g.scrape(t, 0)
		for range 3 {
			opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		}
		for range 2 {
			peer(t, "tcp", g.LAN2, at(ip.outside, 80), "")
		}
		opens(t, g.Server, at(ip.uplink, 8080), ip.outside)
		together(tcp(g.LAN1, ip.outside, 81).drops(t), tcp(g.DMZ, ip.outside, 80).drops(t))
		reset := lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
		g.LAN1.SendPacket("eth0", reset, reset)
		g.Settle()
		after, d := g.scrape(t, 0)
		agree(t, after, d)
		for name, want := range map[string]float64{
			`ipmasq_entry_new_flows_total{entry="nat",section="masquerade"}`:     3,
			`ipmasq_entry_new_flows_total{entry="pool",section="snat"}`:          2,
			`ipmasq_entry_new_flows_total{entry="web",section="port_forward"}`:   1,
			`ipmasq_entry_leaks_stopped_total{entry="nat",section="masquerade"}`: 2,
		} {
			if got := after[name] - before[name]; got != want {
				t.Errorf("%s has grown by %v, want %v", name, got, want)
			}
		}
		for name, least := range map[string]float64{
			`ipmasq_entry_refused_packets_total{entry="default",section="forward"}`:      1,
			`ipmasq_entry_refused_bytes_total{entry="default",section="forward"}`:        40,
			`ipmasq_entry_limit_stopped_packets_total{entry="nat",section="masquerade"}`: 1,
		} {
			if got := after[name] - before[name]; got < least {
				t.Errorf("%s has grown by %v, want at least %v", name, got, least)
			}
		}
		family := strings.ToLower(ip.name)
		for name, want := range map[string]float64{
			"ipmasq_up{}":                           1,
			"ipmasq_conntrack_accounting_enabled{}": 1,
			`ipmasq_entry_connections{entry="nat",section="masquerade"}`:                              3,
			`ipmasq_entry_pool_addresses{entry="pool",family="` + family + `",section="snat"}`:        3,
			`ipmasq_entry_pool_addresses_in_use{entry="pool",family="` + family + `",section="snat"}`: 2,
		} {
			if after[name] != want {
				t.Errorf("%s is %v, want %v", name, after[name], want)
			}
		}
		if n := after[`ipmasq_entry_open_flows_bytes{entry="nat",section="masquerade"}`]; n < 3*120 {
			t.Errorf("the open flows of nat carried %v bytes", n)
		}
	})

	// Somebody turns off forwarding and empties a chain.
	if g.variant == "" {
		g.GW.Run(t, "nft", "flush chain inet ipmasq nat_postrouting")
	} else {
		g.GW.Run(t, g.variant, "-t", "nat", "-F", "POSTROUTING")
	}
	g.GW.Sysctl("net.ipv6.conf.all.forwarding", "0") // the policy is the one of IPv6
	series, d := g.scrape(t, 2)
	agree(t, series, d)
	for _, name := range []string{"ipmasq_drift{}", `ipmasq_drift_changes{kind="structure"}`, `ipmasq_drift_changes{kind="sysctls"}`} {
		if series[name] < 1 {
			t.Errorf("%s is %v", name, series[name])
		}
	}
	g.delete(t)
	series, d = g.scrape(t, 0)
	if series["ipmasq_in_force{}"] != 0 || d.InForce || slices.ContainsFunc(slices.Collect(maps.Keys(series)), func(s string) bool { return strings.HasPrefix(s, "ipmasq_policy_info") }) {
		t.Errorf("after delete: %v", series)
	}
}

// Counters go on through an apply that leaves or changes their entry; those of a
// port forward are of its ports, and begin anew with another target. All begin
// anew after delete.
func TestMetricsThroughApplies(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server, topo.LAN1, topo.LAN2)
	g := untouched(t, topo)
	each(t, func(t *testing.T, ip family) {
		policy := func(nat, port, target string) string {
			return strings.NewReplacer("$nat", nat, "$port", port, "$target", bracketed(target)).Replace(twoZones + `
masquerade:
  - {name: nat, from: lan, to: wan$nat}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: [8080, $port], to: "$target:80"}
`)
		}
		counts := func(when string, nat, web float64) {
			t.Helper()
			series, _ := g.scrape(t, 0)
			for name, want := range map[string]float64{
				`ipmasq_entry_new_flows_total{entry="nat",section="masquerade"}`:   nat,
				`ipmasq_entry_new_flows_total{entry="web",section="port_forward"}`: web,
			} {
				if got, known := series[name]; !known || got != want {
					t.Errorf("%s: %s is %v, want %v", when, name, got, want)
				}
			}
		}
		g.apply(t, policy("", "9090", ip.lan1))
		for range 2 {
			opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		}
		for _, port := range []int{8080, 8080, 8080, 9090} {
			opens(t, g.Server, at(ip.uplink, port), ip.outside)
		}
		counts("at first", 2, 4)
		g.apply(t, policy(", protocol: [tcp, udp]", "9090", ip.lan1))
		counts("when nat has changed", 2, 4)
		g.apply(t, policy(", protocol: [tcp, udp]", "9999", ip.lan1))
		counts("when a port has gone", 2, 3)
		g.apply(t, policy(", protocol: [tcp, udp]", "9999", ip.lan2))
		counts("when the target has changed", 2, 0)
		g.ipmasq(t, 0, "delete")
		g.apply(t, policy("", "9090", ip.lan1))
		counts("after delete", 0, 0)
	})
	g.delete(t)
}
