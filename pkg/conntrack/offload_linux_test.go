package conntrack

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A flow that passes by the rules is deleted like any other.
func TestDeleteOffloaded(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	if !topo.GW.HasFlowtables() {
		t.Skip("this kernel has no flowtables")
	}
	topo.GW.Feed(t, `table inet x {
	flowtable f { hook ingress priority 0; devices = { eth0, eth1 }; }
	chain y { type filter hook forward priority 0; ct state established flow add @f; }
	chain z { type nat hook postrouting priority 100; oifname eth0 masquerade; }
}`, "nft", "-f", "-")
	topo.Forwarding(true)
	c := openOn(t, topo.GW)
	server := topo.Server.ServeTCP(lab.Outside + ":7")
	conn, err := topo.LAN1.DialTCP(lab.Patience, server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var flows []Flow
	for until := time.Now().Add(lab.Patience); len(flows) == 0; {
		if err := conn.Echo(lab.Patience, "again"); err != nil {
			t.Fatal(err)
		}
		if flows = listed(t, c, Filter{Status: StatusOffload, StatusMask: StatusOffload}); time.Now().After(until) {
			t.Fatalf("no flow is offloaded: %+v", listed(t, c, Filter{}))
		}
	}
	if n, err := c.DeleteAll(flows); err != nil || n != 1 {
		t.Fatalf("%d deleted, %v", n, err)
	}
	if left := listed(t, c, Filter{}); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}
