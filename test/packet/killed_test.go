package packet

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// number is one that the environment may name.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// killed runs the program and kills it after a while.
func (g *gateway) killed(t *testing.T, after time.Duration, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(g.program, slices.Concat([]string{command, "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
}

// Whenever ipmasq is killed, the daemon too, nothing leaves with an inside source
// and nobody gets in who may not; and the next command makes all well.
func TestKilledUnderTraffic(t *testing.T) {
	t.Parallel()
	const rate = 100
	g := newForwarding(t)
	rounds, seed := int(number(t, "IPMASQ_TEST_CRASHES", 8)), number(t, "IPMASQ_TEST_SEED", uint64(time.Now().UnixNano()))
	random := rand.New(rand.NewPCG(seed, 0))
	files := [2]string{g.file(t, "a.yaml", "version: 1\n"+reloadA), g.file(t, "b.yaml", "version: 1\n"+reloadB)}

	g.Neighbor.Route("192.168.1.0/24", lab.GatewayUplink)
	leaked := g.ISP.Count("eth0", lab.All(lab.Incoming, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))))
	passed := g.LAN2.Count("eth0", lab.All(lab.Incoming, lab.SrcIn(lab.Neighbor+"/32")))
	translated := g.Server.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.SrcIn(lab.GatewayUplink+"/32")))
	mute(t, g.Server, 7000)
	udp := func(from, to string) []byte {
		return lab.UDP{Header: lab.Between(from, to), SrcPort: 7001, DstPort: 7000, Payload: make([]byte, 100)}.Bytes()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var loads []*lab.Load
	for _, l := range []struct {
		from   *lab.Host
		packet []byte
	}{
		{g.LAN1, udp(lab.LAN1, lab.Outside)},
		{g.LAN1, udp(lab.LAN1v6, lab.Outsidev6)},
		// What no flow is of is not translated.
		{g.LAN2, lab.TCP{Header: lab.Between(lab.LAN2, lab.Outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()},
		{g.LAN2, lab.TCP{Header: lab.Between(lab.LAN2v6, lab.Outsidev6), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()},
		{g.Neighbor, udp(lab.Neighbor, lab.LAN2)},
	} {
		loads = append(loads, l.from.StartFlood(ctx, "eth0", l.packet, rate))
	}
	well := func(what string) {
		g.Settle()
		leaked.Sync()
		passed.Sync()
		if leaked.Count()+passed.Count() > 0 {
			t.Fatalf("%s: %d packets left with an inside source, %d got in: %v %v", what, leaked.Count(), passed.Count(), leaked, passed)
		}
	}

	// As long as it takes on this machine, now.
	whole := time.Duration(0)
	for _, file := range files {
		start := time.Now()
		g.ipmasq(t, 0, "apply", file)
		whole = max(whole, time.Since(start))
	}
	for n := range rounds {
		after := time.Duration(random.Int64N(int64(whole))) + 1
		file := files[n%2]
		switch n % 4 {
		case 0, 1:
			g.killed(t, after, "apply", file)
		case 2:
			g.killed(t, after, "delete")
		case 3: // at its start, when its file changes, and when others do
			g.killed(t, after, "run", file)
			d := g.runs(t, file)
			d.logs(t, "ipmasq: applied")
			switch random.IntN(2) {
			case 0:
				g.replace(t, "b.yaml", "version: 1\n"+reloadA)
			case 1:
				g.GW.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=0")
			}
			time.Sleep(after)
			_ = d.cmd.Process.Kill()
			<-d.ended
			g.replace(t, "b.yaml", "version: 1\n"+reloadB)
		}
		well("killed after " + after.String())
		if n%3 == 2 {
			g.delete(t)
			well("after a delete")
		}
		g.ipmasq(t, 0, "apply", file)
		g.ipmasq(t, 0, "status")
	}
	cancel()
	var sent int64
	for _, l := range loads {
		n, _ := l.Stop()
		if sent += n; n == 0 {
			t.Error("there was no traffic to disturb")
		}
	}
	well("at last")
	translated.Sync()
	if translated.Count() == 0 {
		t.Error("nothing was translated")
	}
	t.Logf("IPMASQ_TEST_SEED=%d: killed %d times within %v; %d packets sent, %d left untranslated, %d got in", seed, rounds, whole, sent, leaked.Count(), passed.Count())
	g.delete(t)
}
