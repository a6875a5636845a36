package packet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// soak is how long the daemon is worried: IPMASQ_SOAK=20m says so by hand. What
// goes wrong in time does so on any backend.
func (g *gateway) soak(t *testing.T) time.Duration {
	t.Helper()
	if text := os.Getenv("IPMASQ_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	switch {
	case g.variant != "":
		return 10 * time.Second
	case os.Getenv("CI") != "":
		return time.Minute
	}
	return 15 * time.Second
}

// flushed takes all rules of iptables away, as others do.
func (g *gateway) flushed(t *testing.T) {
	t.Helper()
	for _, program := range []string{g.variant, "ip6" + strings.TrimPrefix(g.variant, "ip")} {
		g.GW.Feed(t, "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n", program+"-restore")
	}
}

// A policy that changes each second, an uplink that is renumbered and whose link
// fails, somebody who flushes all rules and turns forwarding off, and traffic
// all the while: no rule is lost, nothing leaves with an inside source, and the
// daemon does not grow. Nobody can own chains of iptables: until they are put
// back, and no longer, packets leave.
func TestRunSoak(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	long := g.soak(t)
	inside := lab.All(lab.Incoming, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8")))
	var flushed atomic.Bool // others have removed our rules, which are not back yet
	leaked := g.ISP.Count("eth0", lab.All(inside, func(*lab.Packet) bool { return !flushed.Load() }))
	uncovered := g.ISP.Count("eth0", lab.All(inside, func(*lab.Packet) bool { return flushed.Load() }))
	arguments := []string{g.file(t, "policy.yaml", forwards(8081))}
	if g.variant == "" {
		arguments = append([]string{"--own-table"}, arguments...)
	}
	d := g.runs(t, arguments...)
	d.logs(t, "ipmasq: applied")

	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	stream := lab.UDP{Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 7001, DstPort: 7000, Payload: make([]byte, 100)}.Bytes()
	reset := lab.TCP{Header: lab.Between(lab.LAN2, lab.Outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
	reset6 := lab.TCP{Header: lab.Between(lab.LAN2v6, lab.Outsidev6), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
	var loads []*lab.Load
	var sent int64
	flood := func(on bool) {
		for _, l := range loads {
			n, _ := l.Stop()
			sent += n
		}
		if loads = nil; on {
			loads = []*lab.Load{g.LAN1.StartFlood(ctx, "eth0", stream, 500), g.LAN2.StartFlood(ctx, "eth0", reset, 500), g.LAN2.StartFlood(ctx, "eth0", reset6, 500)}
		}
	}
	var group sync.WaitGroup
	var opened, failed atomic.Int64
	group.Go(func() {
		steadily(ctx, func() bool {
			if c, err := g.LAN1.DialTCP(lab.Patience, at(lab.Outside, 80)); err == nil {
				c.Abort()
				opened.Add(1)
			} else if ctx.Err() == nil {
				failed.Add(1) // while the link is down, and no longer
			}
			return true
		})
	})

	// The uplink as it has to be after each trouble.
	address := lab.GatewayUplink
	uplink := func() {
		g.GW.Run(t, "ip", "link", "set", "eth0", "up")
		g.GW.Run(t, "ip", "address", "replace", address+"/24", "dev", "eth0")
		g.GW.Run(t, "ip", "route", "replace", "default", "via", lab.ISP)
		g.GW.Run(t, "ip", "address", "replace", lab.GatewayUplinkv6+"/64", "dev", "eth0", "nodad")
		g.GW.Run(t, "ip", "route", "replace", "default", "via", lab.ISPv6)
	}
	var bare time.Duration // how long there were no rules, in all
	flush := func(do func()) {
		if g.variant == "" {
			do()
			return
		}
		g.Settle()
		start := time.Now()
		flushed.Store(true)
		g.flushed(t)
		d.logs(t, "the chains of ipmasq in "+g.variant, "put ")
		bare += time.Since(start)
		// It may have seen what became of one family alone.
		if !within(func() bool {
			return exec.Command(g.program, "status", "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state").Run() == nil
		}) {
			t.Error("the rules are not put back")
		}
		g.Settle()
		leaked.Sync()
		uncovered.Sync()
		flushed.Store(false)
	}
	troubles := []func(i int){
		func(int) { flush(func() { g.GW.Run(t, "nft", "flush", "ruleset") }) },
		func(i int) {
			old := address
			address = fmt.Sprintf("203.0.113.%d", 20+i%100)
			g.GW.Run(t, "ip", "address", "replace", address+"/24", "dev", "eth0")
			g.GW.Run(t, "ip", "address", "del", old+"/24", "dev", "eth0")
			uplink()
		},
		func(int) { g.GW.Run(t, "ip", "link", "set", "eth0", "down"); uplink() },
		func(int) {
			if i, err := g.GW.Try("sysctl", "-qw", "net.ipv4.ip_forward=0"); err != nil {
				t.Error(i, err)
			}
			d.logs(t, "changed sysctls", "ip_forward")
		},
		func(int) {
			flush(func() {
				g.GW.Feed(t, "flush ruleset\ntable inet other {\n chain forward {\n type filter hook forward priority 10; policy accept;\n }\n}\n", "nft", "-f", "-")
			})
		},
	}
	var memory, files, port, rounds int
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for ; ctx.Err() == nil && !t.Failed(); rounds++ {
		if rounds%60 == 0 {
			flood(true) // none of them lasts longer than two minutes
		}
		port = 8081 + (rounds+1)%5
		g.replace(t, "policy.yaml", forwards(port))
		d.logs(t, "ipmasq: applied", "port_forward web")
		troubles[rounds%len(troubles)](rounds)
		if rounds == 10 {
			memory, files = d.use(t)
		}
		select {
		case <-second.C:
		case <-ctx.Done():
		}
	}
	group.Wait()
	flood(false)
	g.Settle()
	leaked.Sync()
	if leaked.Count() != 0 {
		t.Errorf("%d packets leaked: %v", leaked.Count(), leaked)
	}
	g.ipmasq(t, 0, "status")
	c, err := g.Server.DialTCP(lab.Patience, at(address, 80))
	if err != nil {
		t.Errorf("from outside: %v", err)
	} else if got := c.Seen().Name; got != fmt.Sprint("port", port) {
		t.Errorf("from outside to %s, want port %d", got, port)
	}
	memoryNow, filesNow := d.use(t)
	uncovered.Sync()
	t.Logf("%v, %d rounds: %d packets sent, %d leaked, and %d in the %v in which rules were not back; %d connections opened, %d not; memory %d kB, then %d kB, descriptors %d, then %d",
		long, rounds, sent, leaked.Count(), uncovered.Count(), bare.Round(time.Millisecond), opened.Load(), failed.Load(), memory, memoryNow, files, filesNow)
	if rounds > 10 && (filesNow > files || memoryNow > memory+memory/4+4000) {
		t.Error("the daemon grows")
	}
	if opened.Load() == 0 || failed.Load() > int64(rounds) {
		t.Error("connections are not opened")
	}
	d.stops(t, syscall.SIGTERM)
}
