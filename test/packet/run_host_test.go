package packet

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The default route moves, and the zone that follows it moves by itself.
func TestRunDefaultRoute(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	topo.GW.Route("default", lab.ISP2+" metric 500")
	topo.GW.Route("default", lab.ISP2v6+" metric 5000")
	g := untouched(t, topo)
	leaks := g.leaks(t, "eth0", "eth3")
	d := g.runs(t, g.file(t, "policy.yaml", "version: 1\n"+followsDefaultRoute))
	d.logs(t, "ipmasq: applied")
	each(t, func(t *testing.T, ip family) { tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink) })
	g.GW.DelRoute("default", lab.ISP)
	g.GW.DelRoute("default", lab.ISPv6)
	if text := d.logs(t, "adapted to the host", "the default route is "+lab.ISP2+" on eth3"); strings.Contains(text, " on eth0") {
		d.logs(t, "adapted to the host") // the other family came later
	}
	each(t, func(t *testing.T, ip family) {
		tcp(g.LAN1, ip.outside, 80).sees(t, ip.uplink2)
		tcp(g.Server, ip.uplink2, 81).sees(t, ip.outside)
	})
	g.ipmasq(t, 0, "status")
	leaks.none(t)
	d.stops(t, syscall.SIGTERM)
	g.ipmasq(t, 0, "delete")
}

// Addresses that rules look at change with the host, an uplink gets another
// address, and its link fails and comes back; a flow outside the rules is never
// seen.
func TestRunAddresses(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	leaks := g.leaks(t)
	d := g.runs(t, g.file(t, "policy.yaml", forwards(8081)))
	d.logs(t, "ipmasq: applied")
	// The gateway's inside addresses are not forwarded.
	g.GW.Addr("eth1", "192.168.77.1/24")
	d.logs(t, "adapted to the host (eth1 has 192.168.77.1/24")
	g.LAN1.Addr("eth0", "192.168.77.10/24")
	fails(t, g.LAN1, "192.168.77.1:80", lab.IsRefused)
	g.ipmasq(t, 0, "status")

	// Another address outside: the kernel's masquerade follows by itself.
	const other = "203.0.113.77"
	g.GW.Addr("eth0", other+"/24")
	g.GW.DelAddr("eth0", lab.GatewayUplink+"/24")
	g.GW.Addr("eth0", other+"/24")
	g.GW.Route("default", lab.ISP)
	reopens(t, g.LAN2, at(lab.Outside, 80), other)
	c, err := g.Server.DialTCP(lab.Patience, at(other, 80))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	g.GW.Down("eth0")
	g.GW.Up("eth0")
	g.GW.Route("default", lab.ISP)
	reopens(t, g.LAN2, at(lab.Outside, 80), other)
	g.ipmasq(t, 0, "status")
	leaks.none(t)
	d.stops(t, syscall.SIGTERM)
	g.ipmasq(t, 0, "delete")
}

// Where a symmetric uplink's next hop is another one, its routes are too, as
// they are when an uplink appears that the policy waits for.
func TestRunSymmetric(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.LAN1, topo.Server)
	g := untouched(t, topo)
	g.GW.Down("eth3")
	d := g.runs(t, g.file(t, "policy.yaml", `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
  wan2: {interfaces: [eth3], symmetric: {gateway: `+lab.ISP2+`}}
masquerade:
  - {from: lan, to: [wan, wan2]}
port_forward:
  - {name: web, from: [wan, wan2], protocol: tcp, ports: 81, to: "192.168.1.10:80"}
`))
	d.logs(t, "ipmasq: applied")
	d.logs(t, "eth3 of the symmetric zone wan2 is not up")
	g.GW.Up("eth3")
	d.logs(t, "adapted to the host", "eth3 came up", "+ route")
	tcp(g.Server, lab.GatewayUplink2, 81).sees(t, lab.Outside)
	// What leads back is gone, and comes back.
	g.GW.Run(t, "ip", "rule", "del", "table", tableOf(t, g))
	d.logs(t, "+ rule")
	tcp(g.Server, lab.GatewayUplink2, 81).sees(t, lab.Outside)
	g.ipmasq(t, 0, "status")
	d.stops(t, syscall.SIGTERM)
	g.ipmasq(t, 0, "delete")
}

// At boot there is no network before the daemon is ready, and so no next hop. It
// is ready with nothing in force, and applies the policy when there is one.
func TestRunWaitsForTheNetwork(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.LAN1, topo.Server)
	g := untouched(t, topo)
	d := g.runs(t, g.file(t, "policy.yaml", `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan2: {interfaces: [eth3], symmetric: true}
port_forward:
  - {name: web, from: wan2, protocol: tcp, ports: 81, to: "192.168.1.10:80"}
`))
	d.tells(t, "READY=1", "STATUS=nothing is in force")
	if text := g.GW.Run(t, "sysctl", "-n", "net.ipv4.ip_forward"); strings.TrimSpace(text) != "0" {
		t.Errorf("ip_forward is %s", text)
	}
	g.GW.Route("default", lab.ISP2+" metric 500")
	g.GW.Route("default", lab.ISP2v6+" metric 5000")
	d.logs(t, "ipmasq: applied", "which the host now allows")
	tcp(g.Server, lab.GatewayUplink2, 81).sees(t, lab.Outside)
	d.stops(t, syscall.SIGTERM)
	g.ipmasq(t, 0, "delete")
}

// tableOf finds the table of the only symmetric zone.
func tableOf(t *testing.T, g *gateway) string {
	t.Helper()
	for line := range strings.Lines(g.GW.Run(t, "ip", "rule")) {
		if _, table, found := strings.Cut(line, "lookup "); found && strings.Contains(line, "fwmark") {
			return strings.Fields(table)[0]
		}
	}
	t.Fatal(fmt.Errorf("no rule looks at a mark"))
	return ""
}

// An interface that a wildcard names comes later, with an address that is the
// gateway's own then.
func TestRunWildcard(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.Interfaces(lab.Names{LAN: "br-home", DMZ: "brx"}), lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	g := untouched(t, topo)
	d := g.runs(t, g.file(t, "policy.yaml", `version: 1
zones:
  vms: {interfaces: ["br-*"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: vms, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:80", "[fd00:1::10]:80"]}
`))
	d.logs(t, "ipmasq: applied")
	g.GW.Down("brx")
	g.GW.Rename("brx", "br-late")
	g.GW.Up("br-late")
	g.GW.Addr("br-late", lab.GatewayDMZv6+"/64")
	d.logs(t, "adapted to the host", "br-late ")
	each(t, func(t *testing.T, ip family) {
		opens(t, g.DMZ, at(ip.outside, 80), ip.uplink)
		tcp(g.Server, ip.uplink, 80).sees(t, ip.outside)
	})
	// What comes while something else is being done is not passed over.
	until := time.Now().Add(lab.Patience)
	for g.drifts(t) {
		if time.Now().After(until) {
			t.Fatal("the rules are never those of the host")
		}
	}
	d.stops(t, syscall.SIGTERM)
	g.ipmasq(t, 0, "delete")
}

// reopens is opens after an uplink has changed: the kernel forgets what was
// masqueraded there a little later, and with it what was opened since.
func reopens(t *testing.T, h *lab.Host, remote, peer string) {
	t.Helper()
	until := time.Now().Add(4 * lab.Patience)
	for {
		c, err := h.DialTCP(lab.Silence, remote)
		if err == nil {
			defer c.Close()
			if got := c.Seen().Peer.Addr().String(); got != peer {
				t.Errorf("%s opens %s: the server saw %s, want %s", h.Name(), remote, got, peer)
			}
			return
		}
		if time.Now().After(until) {
			t.Errorf("%s opens %s: %v", h.Name(), remote, err)
			return
		}
	}
}

// drifts says whether status sees drift.
func (g *gateway) drifts(t *testing.T) bool {
	t.Helper()
	err := exec.CommandContext(t.Context(), g.program, "status", "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state").Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}
