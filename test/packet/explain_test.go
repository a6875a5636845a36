package packet

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// traced is an `explain --live` that goes on.
type traced struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr strings.Builder
	begun, done    chan struct{}
}

// traces starts one, and waits until the kernel traces.
func (g *gateway) traces(t *testing.T, args ...string) *traced {
	t.Helper()
	if g.variant != "" {
		before := g.ruleset(t)
		said := g.complaints(t, 1, append([]string{"explain", "--live"}, args...)...)
		if want := "explain --live: what the kernel does is told by nftables"; !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
		if after := g.ruleset(t); after != before {
			t.Errorf("rules have changed\n%s", difference(before, after))
		}
		g.skips(t, said)
	}
	x := &traced{t: t, begun: make(chan struct{}), done: make(chan struct{})}
	x.cmd = exec.Command(g.program, append([]string{"explain", "--live", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args...)...)
	x.cmd.Stdout = &x.stdout
	stderr, err := x.cmd.StderrPipe()
	if err == nil {
		err = x.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.cmd.Process.Kill(); <-x.done; _ = x.cmd.Wait() })
	go func() {
		defer close(x.done)
		begun := false
		for s := bufio.NewScanner(stderr); s.Scan(); {
			x.stderr.WriteString(s.Text() + "\n")
			if !begun && strings.Contains(s.Text(), "the kernel traces it") {
				begun = true
				close(x.begun)
			}
		}
	}()
	select {
	case <-x.begun:
	case <-x.done:
		t.Fatalf("it ended: %s%s", &x.stdout, &x.stderr)
	}
	return x
}

// ends waits for its end, and gives what it printed.
func (x *traced) ends(code int) string {
	x.t.Helper()
	<-x.done
	_ = x.cmd.Wait()
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d\n%s%s", got, code, &x.stdout, &x.stderr)
	}
	return x.stdout.String()
}

// walked is what it says as data.
type walked struct {
	Verdict string
	Live    []struct {
		Verdict    string
		Same       bool
		Difference string
		DiffersAt  *int `json:"differs_at"`
		Packet     struct {
			Source string
			Port   int `json:"source_port"`
			State  string
		}
		Steps []struct{ Hook, Table, Chain, Entry, Verdict string }
	}
}

func (x *traced) walks(code int) (w walked) {
	x.t.Helper()
	if err := json.Unmarshal([]byte(x.ends(code)), &w); err != nil {
		x.t.Fatalf("%v\n%s%s", err, &x.stdout, &x.stderr)
	}
	return w
}

// openFlows are what limits count, which comes and goes.
var openFlows = regexp.MustCompile(`(?m)^\t\telements = \{ .* ct count over .*\n`)

const explained = zones + `
masquerade:
  - {name: all, from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: 192.168.2.10:80}
  - {name: web6, family: ipv6, from: wan, protocol: tcp, ports: 8080, to: "[fd00:2::10]:80"}
forward:
  rules:
    - {name: no-mail, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
    - {name: few, from: lan, to: dmz, protocol: tcp, ports: 80, action: accept, max_connections: {per_host: 5}}
input:
  default: drop
  rules:
    - {name: ssh, from: lan, protocol: tcp, ports: 22, action: accept}
`

// The kernel's walk of real packets is what was foreseen, whatever the policy
// does with them, and nothing is left behind.
func TestExplainLive(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ, topo.GW)
	g := applied(t, topo, explained)
	without := func() string { return openFlows.ReplaceAllString(g.ruleset(t), "") }
	before := without()
	each(t, func(t *testing.T, ip family) {
		for _, c := range []struct {
			name    string
			from    *lab.Host
			args    []string
			send    func()
			verdict string
			entry   string
		}{
			{"masqueraded", g.LAN1, []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--port", "80"},
				func() { opens(t, g.LAN1, at(ip.outside, 80), ip.uplink) }, "accept", "masquerade all"},
			{"refused", g.LAN1, []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--port", "25"},
				func() { fails(t, g.LAN1, at(ip.outside, 25), lab.IsRefused) }, "drop", "forward no-mail"},
			{"forwarded by port", g.Server, []string{"--from", "wan", "--source", ip.outside, "--destination", ip.uplink, "--port", "8080"},
				func() { opens(t, g.Server, at(ip.uplink, 8080), ip.outside) }, "accept", "port_forward"},
			{"limited", g.LAN1, []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.dmz, "--port", "80"},
				func() { opens(t, g.LAN1, at(ip.dmz, 80), ip.lan1) }, "accept", "forward few"},
			{"dropped", g.LAN1, []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.dmz, "--port", "81"},
				func() { fails(t, g.LAN1, at(ip.dmz, 81), lab.IsTimeout) }, "drop", "forward default"},
			{"to the gateway", g.LAN1, []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.gwLAN, "--port", "22"},
				func() { opens(t, g.LAN1, at(ip.gwLAN, 22), ip.lan1) }, "local", "input ssh"},
			{"of the gateway", g.GW, []string{"--from", "gateway", "--source", ip.uplink, "--destination", ip.outside, "--port", "80"},
				func() { opens(t, g.GW, at(ip.outside, 80), ip.uplink) }, "accept", ""},
		} {
			x := g.traces(t, append(c.args, "--protocol", "tcp", "-o", "json")...)
			c.send()
			w := x.walks(0)
			if len(w.Live) != 1 || !w.Live[0].Same || w.Live[0].Verdict != c.verdict || w.Live[0].Packet.Port == 0 || w.Live[0].Packet.State != "new" {
				t.Errorf("%s: %+v", c.name, w)
				continue
			}
			seen := func(entry string) bool {
				for _, s := range w.Live[0].Steps {
					if s.Entry == entry && s.Table == "inet ipmasq" {
						return true
					}
				}
				return entry == ""
			}
			if !seen(c.entry) {
				t.Errorf("%s: the kernel did not come to %s: %+v", c.name, c.entry, w.Live[0].Steps)
			}
		}
		// Pings and datagrams, and what conntrack can make nothing of.
		protocol := "icmp"
		if ip.v6() {
			protocol = "icmpv6"
		}
		x := g.traces(t, "--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--protocol", protocol, "-o", "json")
		pings(t, g.LAN1, ip.outside)
		if w := x.walks(0); len(w.Live) != 1 || !w.Live[0].Same || w.Live[0].Verdict != "accept" {
			t.Errorf("a ping: %+v", w)
		}
		x = g.traces(t, "--from", "lan", "--interface", "eth1", "--source", ip.lan1, "--destination", ip.outside, "--port", "53", "--protocol", "udp", "-o", "json")
		asks(t, g.LAN1, at(ip.outside, 53), ip.uplink)
		if w := x.walks(0); len(w.Live) != 1 || !w.Live[0].Same || w.Live[0].Verdict != "accept" {
			t.Errorf("a datagram: %+v", w)
		}
		x = g.traces(t, "--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--port", "80", "--protocol", "tcp", "--tcp-flags", "rst", "-o", "json")
		g.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 4000, DstPort: 80, Flags: lab.RST}.Bytes())
		if w := x.walks(0); len(w.Live) != 1 || !w.Live[0].Same || w.Live[0].Verdict != "drop" || w.Live[0].Packet.State != "invalid" {
			t.Errorf("a lone reset: %+v", w)
		}
		// A packet of an open flow, and the next one.
		conn := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		x = g.traces(t, "--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--port", "80", "--protocol", "tcp", "--packets", "2", "-o", "json")
		carries(t, conn)
		carries(t, conn)
		if w := x.walks(0); len(w.Live) != 2 || w.Live[1].Packet.State != "established" || !w.Live[1].Same {
			t.Errorf("of an open flow: %+v", w)
		}
	})
	if after := without(); after != before {
		t.Errorf("it left something behind\n%s", difference(before, after))
	}
}

// What another table does with a packet is told with that table's name, and is a
// difference.
func TestExplainLiveForeign(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, explained)
	each(t, func(t *testing.T, ip family) {
		table := "ip"
		if ip.v6() {
			table = "ip6"
		}
		mail := []string{"--from", "lan", "--source", ip.lan1, "--destination", ip.outside, "--port", "80", "--protocol", "tcp"}
		g.GW.Feed(t, "table "+table+` docker-filter { chain FORWARD { type filter hook forward priority 10; policy drop; tcp dport 443 accept; }; }`, "nft", "-f", "-")
		x := g.traces(t, append(mail, "-o", "json")...)
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
		w := x.walks(2)
		want := "the kernel dropped it in table " + table + " docker-filter chain FORWARD, which is not ipmasq's"
		if w.Verdict != "accept" || len(w.Live) != 1 || w.Live[0].Verdict != "drop" || w.Live[0].Difference != want {
			t.Errorf("%+v", w)
		}
		x = g.traces(t, mail...)
		fails(t, g.LAN1, at(ip.outside, 80), lab.IsTimeout)
		if out := strings.Join(strings.Fields(x.ends(2)), " "); !strings.Contains(out, want) || !strings.Contains(out, "verdict PASSES") || !strings.Contains(out, "kernel DROPPED") {
			t.Errorf("it prints\n%s", out)
		}
		g.GW.Run(t, "nft", "delete", "table", table, "docker-filter")

		// Another's translation before ours.
		g.GW.Feed(t, "table "+table+` early { chain PREROUTING { type nat hook prerouting priority -110; tcp dport 8080 dnat to `+ip.lan1+`; }; }`, "nft", "-f", "-")
		x = g.traces(t, "--from", "wan", "--source", ip.outside, "--destination", ip.uplink, "--port", "8080", "--protocol", "tcp", "-o", "json")
		fails(t, g.Server, at(ip.uplink, 8080), lab.IsTimeout)
		w = x.walks(2)
		if len(w.Live) != 1 || !strings.Contains(w.Live[0].Difference, "table "+table+" early had its turn before") || !strings.Contains(w.Live[0].Difference, "destination was "+ip.lan1) {
			t.Errorf("another's translation: %+v", w)
		}
		g.GW.Run(t, "nft", "delete", "table", table, "early")

		// What is no rule's doing.
		if !ip.v6() {
			g.GW.Run(t, "ip", "route", "add", "blackhole", ip.outside)
			x = g.traces(t, append(mail, "--to", "wan", "-o", "json")...)
			fails(t, g.LAN1, at(ip.outside, 80), func(err error) bool { return err != nil })
			w = x.walks(2)
			if len(w.Live) != 1 || w.Live[0].Verdict != "" || !strings.Contains(w.Live[0].Difference, "nothing more was seen of it") {
				t.Errorf("a blackhole: %+v", w)
			}
			g.GW.Run(t, "ip", "route", "del", "blackhole", ip.outside)
		}
	})
}

// However it ends, the table goes with it.
func TestExplainLiveEnds(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	g := applied(t, topo, lanToWAN)
	before := g.ruleset(t)
	args := []string{"--from", "lan", "--source", lab.LAN1, "--destination", lab.Outside, "--port", "80", "--protocol", "tcp"}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		x := g.traces(t, append(slices.Clone(args), "--wait", "10m")...)
		if now := g.ruleset(t); !strings.Contains(now, "table inet ipmasq_trace_") || !strings.Contains(now, "meta nftrace set 1") {
			t.Errorf("there is no table to trace by\n%s", now)
		}
		if err := x.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		code := 0
		if signal == syscall.SIGKILL {
			code = -1
		}
		x.ends(code)
		if after := g.ruleset(t); after != before {
			t.Errorf("%v leaves something behind\n%s", signal, difference(before, after))
		}
	}
	x := g.traces(t, append(slices.Clone(args), "--wait", "50ms")...)
	x.ends(0)
	if !strings.Contains(x.stderr.String(), "no such packet came") {
		t.Errorf("it says\n%s", &x.stderr)
	}
}
