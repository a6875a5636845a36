package packet

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What others do to the rules and to forwarding is put right, and said.
func TestRunDrift(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("iptables"))
	g := newForwarding(t)
	d := g.runs(t, g.file(t, "policy.yaml", forwards(8081)))
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8081)
	type trouble struct{ do, says []string }
	troubles := []trouble{
		{[]string{"sysctl", "-w", "net.ipv4.ip_forward=0"}, []string{"changed sysctls", "net/ipv4/ip_forward: 0 -> 1"}},
		{[]string{"sysctl", "-w", "net.ipv6.conf.all.forwarding=0"}, []string{"changed sysctls", "net/ipv6/conf/all/forwarding: 0 -> 1"}},
	}
	iptables, chains := "iptables", []string{"the chains of ipmasq in " + g.variant, ": put "}
	if g.variant == "" {
		troubles = append(troubles,
			trouble{[]string{"nft", "flush", "ruleset"}, []string{"nft (pid ", "removed the table inet ipmasq", "put back"}},
			trouble{[]string{"nft", "delete", "table", "inet", "ipmasq"}, []string{"nft (pid ", "removed the table inet ipmasq", "put back"}},
			trouble{[]string{"nft", "insert", "rule", "inet", "ipmasq", "forward", "drop"}, []string{"nft (pid ", "changed the table inet ipmasq", "put right"}})
	} else {
		iptables = g.variant
		troubles = append(troubles,
			trouble{[]string{iptables, "-t", "nat", "-F"}, chains},
			trouble{[]string{iptables, "-I", "IPMASQ-forward", "-j", "DROP"}, chains})
	}
	for _, c := range troubles {
		g.GW.Run(t, c.do[0], c.do[1:]...)
		d.logs(t, c.says...)
		g.leadsTo(t, 8081)
	}
	g.ipmasq(t, 0, "status")

	// A reload as firewalld does it: everything goes, and a table of its own
	// comes that drops what it does not know. It is left alone.
	g.GW.Feed(t, `flush ruleset
table inet firewalld {
	chain forward {
		type filter hook forward priority filter + 10; policy drop;
		ct state established,related accept
		ct status dnat accept
		iifname "eth1" accept
	}
}
`, "nft", "-f", "-")
	switch g.variant {
	case "":
		d.logs(t, "nft (pid ", "removed the table inet ipmasq")
	case "iptables-nft":
		d.logs(t, append(chains, "nft (pid ")...)
	case "iptables-legacy": // which it does not touch
	}
	g.leadsTo(t, 8081)
	opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
	fails(t, g.DMZ, at(lab.Outside, 80), lab.IsTimeout)
	g.GW.Run(t, "nft", "delete", "table", "inet", "firewalld")
	opens(t, g.DMZ, at(lab.Outside, 80), lab.GatewayUplink)

	// What is somebody else's costs nothing, and is not even looked at.
	said := d.said()
	for _, do := range []string{"-A", "-D"} {
		g.GW.Run(t, iptables, "-t", "nat", do, "POSTROUTING", "-s", "10.9.9.0/24", "-j", "MASQUERADE")
	}
	g.leadsTo(t, 8081)
	g.ipmasq(t, 0, "status")
	if now := d.said(); now != said {
		t.Errorf("the daemon minds other's rules:\n%s", now[len(said):])
	}
	d.stops(t, syscall.SIGTERM)
	if g.variant == "" {
		g.GW.Run(t, "nft", "delete", "table", "ip", "nat")
	}
	g.delete(t)
}

// What an administrator does by hand stays, until the files change.
func TestRunByHand(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	file := g.file(t, "policy.yaml", forwards(8081))
	d := g.runs(t, file)
	d.logs(t, "ipmasq: applied")
	other := g.file(t, "other.yaml", forwards(8082))
	if w := g.complaints(t, 0, "apply", other); w == "" {
		t.Error("apply does not say that a daemon runs")
	}
	d.logs(t, "another policy was applied by hand")
	g.leadsTo(t, 8082)
	// That is what is put right now, and a touch is no change.
	if err := os.Chtimes(file, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	d.wiped(t)
	g.leadsTo(t, 8082)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8081)

	g.delete(t)
	d.logs(t, "ipmasq delete was run")
	g.file(t, "policy.yaml", forwards(8083))
	d.logs(t, "ipmasq: applied", "+ port_forward web")
	g.leadsTo(t, 8083)
	d.stops(t, syscall.SIGTERM)
	g.delete(t)
}

// With a table of its own not a packet leaves untranslated while others flush
// the ruleset, nor does one when it is taken over, and what is left is anybody's.
func TestRunOwnTable(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(map[bool]string{true: "owned", false: "put back"}[own], func(t *testing.T) {
			t.Parallel()
			g := newForwarding(t)
			file := g.file(t, "policy.yaml", forwards(8081))
			g.ipmasq(t, 0, "apply", file)
			leaked := g.ISP.Count("eth0", lab.All(lab.Incoming, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))))
			arrived := g.Server.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(7000), lab.SrcIn(lab.GatewayUplink+"/32")))
			server := g.Server.ServeUDP(":7000")
			if _, err := g.LAN1.UDPExchange(at(lab.LAN1, 7001), at(lab.Outside, 7000), "hello", lab.Patience); err != nil {
				t.Fatal(err)
			}
			server.Close()
			mute(t, g.Server, 7000)
			arrived.Sync()
			arrived.Reset()
			// A flow that is open, and packets that no flow is open for: each is the
			// first of its own.
			stream := lab.UDP{Header: lab.Between(lab.LAN1, lab.Outside), SrcPort: 7001, DstPort: 7000, Payload: make([]byte, 100)}.Bytes()
			reset := lab.TCP{Header: lab.Between(lab.LAN2, lab.Outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			streams := g.LAN1.StartFlood(ctx, "eth0", stream, 4000)
			resets := g.LAN2.StartFlood(ctx, "eth0", reset, 4000)

			var args []string
			if own {
				args = append(args, "--own-table")
			}
			d := g.runs(t, append(args, file)...)
			if own && g.variant != "" {
				g.skips(t, d.logs(t, "nobody can own chains of iptables"))
			}
			d.logs(t, "ipmasq: applied")
			if own && leaked.Count() > 0 {
				t.Errorf("%d leaked at the take-over", leaked.Count())
			}
			flushes := 20
			if g.variant != "" {
				flushes = 4 // reading the rules may take a tenth of the time, and no more
			}
			for i := range flushes {
				if own {
					g.wipes(t)
				} else {
					d.wiped(t)
				}
				if i == flushes/2 {
					g.replace(t, "policy.yaml", forwards(8082))
					d.logs(t, "ipmasq: applied", "~ port_forward web")
				}
			}
			g.leadsTo(t, 8082)
			if own {
				if w := g.complaints(t, 1, "apply", file+".none"); w == "" {
					t.Error("no complaint about a missing file")
				}
				w := g.complaints(t, 1, "apply", g.file(t, "other.yaml", forwards(8083)))
				if want := "a running daemon owns the rules"; !strings.Contains(w, want) {
					t.Errorf("apply beside it says\n%s", w)
				}
				g.ipmasq(t, 0, "status")
			}
			d.stops(t, syscall.SIGTERM)
			cancel()
			sent, _ := streams.Stop()
			forged, _ := resets.Stop()
			g.Settle()
			leaked.Sync()
			arrived.Sync()
			t.Logf("%d sent, %d arrived; of %d without a flow and all others %d leaked, in %d flushes", sent, arrived.Count(), forged, leaked.Count(), flushes)
			if own && leaked.Count() != 0 {
				t.Errorf("%d leaked: %v", leaked.Count(), leaked)
			}
			if int64(arrived.Count()) < sent {
				if own {
					t.Errorf("%d of %d packets arrived", arrived.Count(), sent)
				}
			}
			// What it leaves is as an apply leaves it.
			g.leadsTo(t, 8082)
			g.ipmasq(t, 0, "apply", g.file(t, "other.yaml", forwards(8083)))
			g.leadsTo(t, 8083)
			g.delete(t)
		})
	}
}

// A daemon that is killed leaves its table, and the next one takes it over.
func TestRunKilled(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	file := g.file(t, "policy.yaml", forwards(8081))
	for i := range 2 {
		d := g.runs(t, "--own-table", file)
		d.logs(t, "ipmasq: applied")
		if err := g.complaints(t, 1, "run", file); i == 0 && !strings.Contains(err, "a daemon is running already") {
			t.Errorf("a second daemon says\n%s", err)
		}
		if err := d.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-d.ended
		g.leadsTo(t, 8081)
		g.ipmasq(t, 0, "status")
	}
	d := g.runs(t, "--delete-on-exit", "--own-table", file)
	d.logs(t, "ipmasq: applied", "nothing changed")
	d.stops(t, syscall.SIGTERM)
	if out := g.complaints(t, 0, "status"); strings.Contains(out, fmt.Sprint("pid ", d.cmd.Process.Pid)) {
		t.Errorf("status knows of a daemon that is gone\n%s", out)
	}
	if left := g.ruleset(t); left != g.rules {
		t.Errorf("rules are left\n%s", left)
	}
	if left := g.sysctls(t); left != g.sysctl {
		t.Errorf("sysctls are left\n%s", difference(g.sysctl, left))
	}
}
