package packet

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What an apply begins to let out is translated from its first packet on, and
// what it ceases to let out until its last: new flows all the while, from a
// network that every second policy translates.
func TestReloadNewFlows(t *testing.T) {
	t.Parallel()
	const flows, reloads = 2000, 6 // a second
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	mute(t, topo.Server, 7000)
	var files []string
	for _, from := range []string{"lan", "[lan, dmz]"} {
		file := filepath.Join(g.dir, "policy-"+from+".yaml")
		if err := os.WriteFile(file, []byte("version: 1\n"+zones+"masquerade:\n  - {name: out, from: "+from+", to: wan}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	g.ipmasq(t, 0, "apply", files[0])
	var loads []*lab.Load
	var leaked, arrived []*lab.Capture
	for _, ip := range families() {
		inside, uplink, udp := "192.168.0.0/16", ip.uplink+"/32", 20
		if ip.v6() {
			inside, uplink, udp = "fd00::/8", ip.uplink+"/128", 40
		}
		leaked = append(leaked, topo.ISP.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.SrcIn(inside))))
		arrived = append(arrived, topo.ISP.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(7000), lab.SrcIn(uplink))))
		packet := lab.UDP{Header: lab.Between(ip.dmz, ip.outside), SrcPort: 1, DstPort: 7000, Payload: make([]byte, 20)}.Bytes()
		loads = append(loads, topo.DMZ.StartSeries(context.Background(), "eth0", packet, flows, func(p []byte, n int64) {
			port := uint16(1024 + n%60000)
			binary.BigEndian.PutUint16(p[udp:], port)
			binary.BigEndian.PutUint16(p[udp+8:], ^(port - 1)) // so that the checksum stays right
		}))
	}
	for i := range reloads {
		g.ipmasq(t, 0, "apply", files[(i+1)%2])
	}
	most := 0
	if g.variant == "" {
		most = reloads // one that is between two chains when both change at once
	}
	for i, load := range loads {
		sent, err := load.Stop()
		if err != nil {
			t.Fatal(err)
		}
		topo.Settle()
		leaked[i].Sync()
		arrived[i].Sync()
		if arrived[i].Count() == 0 || leaked[i].Count() > most {
			t.Errorf("%s: of %d flows %d came out, and %d untranslated", families()[i].name, sent, arrived[i].Count(), leaked[i].Count())
		}
	}
	g.delete(t)
}
