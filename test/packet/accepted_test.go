package packet

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What is established passes the rules: where a rule goes and its flows are
// kept, they stay, and nothing new gets in.
func TestRuleGoesFlowsStay(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.DMZ)
	g := applied(t, topo, zones+`
forward: {rules: [{name: in, from: lan, to: dmz, action: accept}]}
`)
	each(t, func(t *testing.T, ip family) {
		g.apply(t, zones+"forward: {rules: [{name: in, from: lan, to: dmz, action: accept}]}\n")
		c := opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1)
		u, err := g.LAN1.DialUDP(at(ip.dmz, 53))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Exchange(lab.Patience, "before"); err != nil {
			t.Error(err)
		}
		g.apply(t, zones, "--keep-flows")
		carries(t, c)
		if _, err := u.Exchange(lab.Patience, "after"); err != nil {
			t.Errorf("an open flow: %v", err)
		}
		tcp(g.LAN1, ip.dmz, 80).dropped(t)
	})
	g.delete(t)
}

// Accepting is not final: what another table drops on the same hook is dropped,
// and that table is not ours to change.
func TestForeignDropStands(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	const other = "table inet other { chain forward { type filter hook forward priority %s; policy drop; ct state established accept; udp dport 53 accept; }; }"
	for _, priority := range []string{"-10", "10"} {
		topo.GW.Feed(t, strings.ReplaceAll(other, "%s", priority), "nft", "-f", "-")
		g := untouched(t, topo)
		g.apply(t, lanToWAN)
		each(t, func(t *testing.T, ip family) {
			asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
			fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
		})
		g.delete(t)
		topo.GW.Run(t, "nft", "delete", "table", "inet", "other")
	}
}

// A trace of a packet names the entries that it meets.
func TestTraceNamesEntries(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN+`
forward: {rules: [{name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}]}
`)
	program, place, comment := []string{"nft", "monitor", "trace"}, "inet ipmasq", "comment "
	switch g.variant {
	case "iptables-legacy":
		g.nftablesOnly(t, "the log of the kernel has the numbers of rules, and not their comments")
	case "iptables-nft":
		program, place, comment = []string{"xtables-monitor", "--trace"}, "IPMASQ-", "--comment "
		lab.Require(t, lab.Binary(program[0]))
	}
	g.GW.Feed(t, "table inet trace { chain p { type filter hook prerouting priority -400; iifname eth1 meta nftrace set 1; }; }", "nft", "-f", "-")
	monitor := g.GW.Command(t.Context(), program[0], program[1:]...)
	out, err := monitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	defer func() {
		monitor.Close()
		for range lines {
		}
	}()
	missing := map[string]bool{comment + `"masquerade lan-wan`: true, comment + `"forward no-smtp`: true}
	again := time.NewTicker(lab.Silence) // it does not say when it has begun to listen
	defer again.Stop()
	port := uint16(4000) // of a new flow each time
	for end := time.After(lab.Patience); len(missing) > 0; {
		select {
		case line := <-lines:
			for want := range missing {
				if strings.Contains(line, place) && strings.Contains(line, want) {
					delete(missing, want)
				}
			}
		case <-again.C:
			port++
			between := lab.Between(lab.LAN1, lab.Outside)
			topo.LAN1.SendPacket("eth0", lab.UDP{Header: between, SrcPort: port, DstPort: 53}.Bytes(),
				lab.TCP{Header: between, SrcPort: port, DstPort: 25, Flags: lab.SYN}.Bytes())
		case <-end:
			t.Fatalf("the trace does not show %v", missing)
		}
	}
}
