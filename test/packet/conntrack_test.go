package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Flows live as long as the policy says, as long as it says it.
func TestConntrack(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	const acct, udpTimeout = "net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_udp_timeout_stream"
	topo.GW.Sysctl(acct, "0")
	topo.GW.Sysctl(udpTimeout, "120")
	g := applied(t, topo, lanToWAN+`
gateway:
  conntrack: {accounting: true, timeouts: {tcp: {established: 1h}, udp: {replied: 77s}, icmp: 9s}}
`)
	each(t, func(t *testing.T, ip family) {
		for name, want := range map[string]string{
			acct: "1", udpTimeout: "77", "net.netfilter.nf_conntrack_tcp_timeout_established": "3600",
			"net.netfilter.nf_conntrack_icmp_timeout": "9", "net.netfilter.nf_conntrack_icmpv6_timeout": "9",
		} {
			if got := g.GW.GetSysctl(name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		carries(t, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
		if out := g.GW.Run(t, "conntrack", "-L", "-f", strings.ToLower(ip.name), "-p", "tcp"); !strings.Contains(out, "bytes=") {
			t.Errorf("nothing is counted:\n%s", out)
		}
	})
	g.GW.Sysctl(udpTimeout, "50")
	if out := g.ipmasq(t, 2, "status"); !strings.Contains(out, "sysctl net/netfilter/nf_conntrack_udp_timeout_stream is 50, not 77") {
		t.Errorf("status does not see it:\n%s", out)
	}
	g.GW.Sysctl(udpTimeout, "77")
	if out := g.apply(t, lanToWAN); !strings.Contains(out, "net/netfilter/nf_conntrack_udp_timeout_stream: 77 -> 120") {
		t.Errorf("apply does not say what goes back:\n%s", out)
	}
	if got := g.GW.GetSysctl(acct); got != "0" {
		t.Errorf("%s is %s", acct, got)
	}
	g.delete(t)
}
