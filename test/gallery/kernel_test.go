package gallery

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/test/flood"
	"github.com/ipmasq/ipmasq/test/lab"
)

// counting is home with packets counted.
const counting = home + "gateway: {conntrack: {accounting: true}}\n"

// fills puts so many parts of a hundred into the table of flows.
func fills(hundredths int) func(t *testing.T, g *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		limit, err := strconv.Atoi(g.GW.GetSysctl("net.netfilter.nf_conntrack_max"))
		if err != nil {
			t.Fatal(err)
		}
		have, err := strconv.Atoi(g.GW.GetSysctl("net.netfilter.nf_conntrack_count"))
		if err != nil {
			t.Fatal(err)
		}
		if limit > 1<<20 {
			t.Skipf("the table of this machine has room for %d flows", limit)
		}
		err = g.GW.Do(func() error {
			return flood.Fill(limit*hundredths/100-have, func(i int, e *flood.Entry) {
				e.Protocol = unix.IPPROTO_UDP
				e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 8, byte(i >> 16), byte(i >> 8)}), uint16(1024+i&255))
				e.Destination = netip.MustParseAddrPort("198.51.100.9:53")
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// resolves asks a server outside for a name, from another host than the first.
func resolves(g *gateway, within time.Duration) error {
	_, err := g.LAN2.UDPExchange("", lab.Outside+":53", "x", within)
	return err
}

func emptied(t *testing.T, g *gateway) { g.GW.Run(t, "conntrack", "-F") }

var kernelExhibits = []exhibit{
	{
		name: "table of flows nearly full", policy: home, breaks: fills(85),
		first: "conntrack-full", severity: "risk", evidence: "sysctl net.netfilter.nf_conntrack_count is", mend: emptied,
	},
	{
		name: "table of flows full", policy: home, breaks: fills(100),
		passes: out(), first: "conntrack-full", severity: "broken", evidence: "sysctl net.netfilter.nf_conntrack_max is", mend: emptied,
	},
	{
		name: "no outside port left", policy: replaced(home, "{from: lan, to: wan}", "{from: lan, to: wan, outside_ports: 50000-50000}"),
		breaks: func(t *testing.T, g *gateway) {
			g.Server.ServeUDP(":53")
			for _, h := range []*lab.Host{g.LAN1, g.LAN2} {
				_, err := h.UDPExchange("", lab.Outside+":53", "x", lab.Silence)
				if (err == nil) != (h == g.LAN1) {
					t.Fatalf("%s: %v", h.Name(), err)
				}
			}
		},
		first: "ports-exhausted", severity: "broken", evidence: "flows could not be inserted",
		byHand: "what has failed stays counted until the host starts again",
	},
	{
		name: "limit reached", policy: home + "forward:\n  rules:\n    - {name: few, from: lan, to: wan, protocol: udp, ports: 53, action: accept, max_connections: {total: 1}}\n",
		breaks: func(t *testing.T, g *gateway) {
			g.Server.ServeUDP(":53")
			if _, err := g.LAN1.UDPExchange("", lab.Outside+":53", "x", lab.Patience); err != nil {
				t.Fatal(err)
			}
		},
		passes: resolves, first: "limit-reached", severity: "broken", evidence: "1 of 1 connections are open", mend: writes(home),
		there: func(x *exhibit, _ string) { // which counts each family apart
			x.policy = replaced(x.policy, "protocol: udp", "family: ipv4, protocol: udp")
		},
	},
	{
		name: "policy that the host cannot have", policy: home + "gateway: {conntrack: {max: 777777}}\n", given: true,
		first: "policy-refused", severity: "broken", evidence: "nf_conntrack_max",
		mend: func(t *testing.T, g *gateway) { g.write(t, home) },
	},
	{
		name: "setting that somebody has changed", policy: home + "gateway: {conntrack: {timeouts: {tcp: {established: 2h}}}}\n",
		breaks: sysctls("net.netfilter.nf_conntrack_tcp_timeout_established", "60"),
		first:  "sysctl-drift", severity: "risk", evidence: "is 60, not 7200",
	},
	{
		name: "packets of flows not counted", policy: home, breaks: sysctls("net.netfilter.nf_conntrack_acct", "0"),
		first: "no-accounting", severity: "note", evidence: "sysctl net.netfilter.nf_conntrack_acct is 0",
	},
}

func TestKernel(t *testing.T) { show(t, kernelExhibits) }

// What was full once is said of a table that is not any more.
func TestWasFull(t *testing.T) {
	g := newGateway(t)
	g.write(t, counting)
	g.run(t, 0, "apply", g.file())
	fills(100)(t, g)
	if _, err := g.LAN1.UDPExchange("", lab.Outside+":53", "x", lab.Silence); err == nil {
		t.Fatal("a new flow got into a full table")
	}
	emptied(t, g)
	found := g.doctor(t)
	if len(found) != 1 || found[0].ID != "conntrack-was-full" || found[0].Severity != "note" {
		t.Errorf("doctor says\n%s", text(found))
	}
}
