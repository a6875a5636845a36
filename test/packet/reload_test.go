package packet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The two policies that take turns. They agree on what the traffic below needs
// and differ in all else: rules, sets, maps, zones' chains.
const (
	reloadA = zones + `
masquerade:
  - {from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.10:8080"}
  - {from: wan, protocol: udp, ports: 4000-4100, to: 192.168.2.10}
`
	reloadB = zones + `
sets:
  friends: [198.51.100.0/24, 192.0.2.0/25]
masquerade:
  - {from: [lan, dmz], to: wan, except_destinations: [10.0.0.0/8, 172.16.0.0/12]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.11:8081", sources: "@friends"}
  - {from: wan, protocol: tcp, ports: 5000-5010, to: "192.168.2.10:6000-6010"}
forward:
  default: reject
  rules:
    - {from: lan, to: dmz, action: accept}
    - {name: no-smtp, from: [lan, dmz], to: wan, protocol: tcp, ports: [25, 465], action: reject}
`
)

// A reload must not be felt: not by a flow that is open, not by one that is
// opened meanwhile, not by one that is forbidden. The kernel can get all three
// wrong in a transaction that replaces base chains (kernel semantics, 2).
func TestReload(t *testing.T) {
	const (
		streaming = 4000 // packets a second: translated, forbidden, invalid
		forbidden = 4000
		invalid   = 1000
	)
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	reloads := 200
	if g.variant != "" {
		reloads = 50 // each runs a dozen programs
	}
	files := [2]string{}
	for i, text := range []string{reloadA, reloadB} {
		files[i] = filepath.Join(g.dir, fmt.Sprintf("policy-%d.yaml", i))
		if err := os.WriteFile(files[i], []byte("version: 1\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.ipmasq(t, 0, "apply", files[0])

	// A flow that is open, at a steady rate. Its first datagram is answered.
	server := topo.Server.ServeUDP(":7000")
	if _, err := topo.LAN1.UDPExchange(at(lab.LAN1, 7001), at(lab.Outside, 7000), "hello", lab.Patience); err != nil {
		t.Fatal(err)
	}
	server.Close()
	mute(t, topo.Server, 7000)
	stream := lab.UDP{Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 7001, DstPort: 7000, Payload: make([]byte, 100)}.Bytes()
	arrived := topo.Server.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(7000), lab.SrcIn(lab.GatewayUplink+"/32")))

	// One that is forbidden: a neighbour who routes straight to the inside.
	topo.Neighbor.Route("192.168.1.0/24", lab.GatewayUplink)
	block := lab.UDP{Header: lab.Between(lab.Neighbor, lab.LAN2), SrcPort: 9, DstPort: 9, Payload: make([]byte, 100)}.Bytes()
	passed := topo.LAN2.Count("eth0", lab.All(lab.Incoming, lab.SrcIn(lab.Neighbor+"/32")))

	// And one that must not leave: no connection tracking knows this reset.
	reset := lab.TCP{Header: lab.Between(lab.LAN2, lab.Outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
	leaked := topo.ISP.Count("eth0", lab.All(lab.Incoming, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	streams := topo.LAN1.StartFlood(ctx, "eth0", stream, streaming)
	blocks := topo.Neighbor.StartFlood(ctx, "eth0", block, forbidden)
	resets := topo.LAN2.StartFlood(ctx, "eth0", reset, invalid)

	// New connections all the while, and one that stays.
	topo.Server.ServeTCP(":80")
	long, err := topo.LAN1.DialTCP(lab.Patience, at(lab.Outside, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	var opened, echoed atomic.Int64
	var group sync.WaitGroup
	group.Go(func() {
		steadily(ctx, func() bool {
			c, err := topo.LAN2.DialTCP(lab.Patience, at(lab.Outside, 80))
			if err != nil {
				t.Errorf("connection %d during reloads: %v", opened.Load()+1, err)
				return false
			}
			c.Abort()
			opened.Add(1)
			return true
		})
	})
	group.Go(func() {
		steadily(ctx, func() bool {
			if err := long.Echo(lab.Patience, "still here"); err != nil {
				t.Errorf("the long connection, after %d round trips: %v", echoed.Load(), err)
				return false
			}
			echoed.Add(1)
			return true
		})
	})

	for i := range reloads {
		g.ipmasq(t, 0, "apply", files[(i+1)%2])
		if t.Failed() {
			break
		}
	}
	cancel()
	group.Wait()
	sent, err := streams.Stop()
	if err != nil {
		t.Fatal(err)
	}
	sentBlocks, _ := blocks.Stop()
	sentResets, _ := resets.Stop()
	topo.Settle()
	arrived.Sync()
	passed.Sync()
	leaked.Sync()
	t.Logf("%d reloads; of an open flow %d of %d packets arrived; of a forbidden one %d of %d; %d of %d left untranslated; "+
		"%d new connections, %d round trips on the long one", reloads, arrived.Count(), sent, passed.Count(), sentBlocks,
		leaked.Count(), sentResets, opened.Load(), echoed.Load())
	if int64(arrived.Count()) != sent {
		t.Errorf("%d of %d packets of an open flow were lost", sent-int64(arrived.Count()), sent)
	}
	if passed.Count() != 0 {
		t.Errorf("%d of %d forbidden packets passed", passed.Count(), sentBlocks)
	}
	if leaked.Count() != 0 {
		t.Errorf("%d packets left with an inside source", leaked.Count())
	}
	if opened.Load() == 0 || echoed.Load() == 0 || sentResets == 0 {
		t.Error("there was no traffic to disturb")
	}
	g.delete(t)
}

// mute has a host take datagrams to a port without an answer.
func mute(t *testing.T, h *lab.Host, port int) {
	t.Helper()
	h.Feed(t, fmt.Sprintf("table inet mute {\n chain input {\n type filter hook input priority 0\n udp dport %d drop\n }\n}\n", port), "nft", "-f", "-")
}

// steadily does something up to 500 times a second until the context ends or it
// does not want to go on. Without a pause, the machine would be busy with that, and
// an apply with judging flows.
func steadily(ctx context.Context, do func() bool) {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil && do() {
		<-pause.C
	}
}
