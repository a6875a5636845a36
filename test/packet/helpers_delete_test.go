package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What a helper opened is cut with what it belongs to, whoever opened it and by
// whatever protocol.
func TestDeleteCutsWhatHelpersOpened(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.LAN1.ServeTCP(":5001")
	topo.Server.ServeTCP(":21")
	const policy = zones + `
masquerade: {from: lan, to: wan, protocol: tcp, helpers: [ftp, pptp]}
`
	g := applied(t, topo, policy)
	// An FTP server connects to a client inside.
	control := opens(t, topo.LAN1, at(lab.Outside, 21), lab.GatewayUplink)
	if control == nil {
		t.FailNow()
	}
	for _, line := range []string{"USER ftp\r\n", "PORT 192,168,1,10,19,137\r\n"} {
		fmt.Fprint(control, line)
		heard := make([]byte, len(strings.Replace(line, "192,168,1,10", "203,0,113,2", 1)))
		if _, err := control.Read(heard); err != nil {
			t.Fatal(err)
		}
	}
	lands(t, "tcp", topo.Server, at(lab.GatewayUplink, 5001), at(lab.LAN1, 5001), "")
	// A client inside calls by PPTP.
	dialPPTP(t, topo.LAN2, topo.Server, at(lab.Outside, 1723))
	atServer := calls(topo.Server)
	topo.LAN2.SendPacket("eth0", pppFrame(lab.LAN2, lab.Outside, 7))
	if _, err := atServer.Wait(1, lab.Patience); err != nil {
		t.Fatal(err)
	}
	expected := func() (n int) {
		for line := range strings.Lines(g.GW.Run(t, "conntrack", "-L")) {
			if strings.Contains(line, "dport=5001") || strings.HasPrefix(line, "gre") {
				n++
			}
		}
		return n
	}
	if n := expected(); n != 2 {
		t.Fatalf("%d expected flows, want 2", n)
	}
	g.delete(t)
	if left := g.GW.Run(t, "conntrack", "-L"); left != "" {
		t.Errorf("delete left flows:\n%s", left)
	}
}

// Flows to any of a forward's targets are cut.
func TestDeleteCutsFlowsToEachTarget(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("conntrack"))
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	topo.LAN1.ServeTCP(":80")
	topo.LAN2.ServeTCP(":80")
	g := applied(t, topo, zones+"port_forward: {from: wan, protocol: tcp, ports: 8080, to: [\"192.168.1.10:80\", \"192.168.1.11:80\"]}\n")
	for range 2 {
		opens(t, topo.Server, at(lab.GatewayUplink, 8080), lab.Outside)
	}
	g.delete(t)
	if left := g.GW.Run(t, "conntrack", "-L"); left != "" {
		t.Errorf("delete left flows:\n%s", left)
	}
}
