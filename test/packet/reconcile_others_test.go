package packet

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/flood"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// What other tables translate is theirs, whatever the policy becomes, unless it
// would not pass.
func TestReconcileForeign(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "", lab.InsideRoutes())
		listens(r.Server, 80)
		listens(r.Guest, 80)
		r.Forwarding(true)
		family, saddr, to := "ip", "10.99.0.0/24", bracketed(ip.guest)
		if ip.v6() {
			family, saddr = "ip6", "fd00:99::/64"
		}
		r.GW.Feed(t, `table `+family+` foreign {
			chain pre { type nat hook prerouting priority dstnat; iifname eth0 udp dport 8888 dnat to `+to+`:80; }
			chain post { type nat hook postrouting priority srcnat; `+family+` saddr `+saddr+` oifname eth0 masquerade; }
		}`, "nft", "-f", "-")
		out, in := socket(t, r.Guest, at(ip.outside, 80)), socket(t, r.Neighbor, at(ip.uplink, 8888))
		leavesAs(t, out, ip.uplink)
		answered(t, in, at(ip.guest, 80))
		guests := func(action string) string {
			return "forward: {rules: [{name: guests, from: wan, destinations: \"" + ip.guest + "\", action: " + action + "}]}\n"
		}
		first := calm + "  - {name: lan, from: lan, to: wan}\n" + ip.forwards("  - {name: web, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n") + guests("accept")
		if c := r.reports(t, 0, "apply", first); c.Total != 0 {
			t.Errorf("the first apply cuts %v", c.said())
		}
		r.hold(t)
		r.changes(t, calm+guests("accept"), map[string]int{})
		leavesAs(t, out, ip.uplink)
		answered(t, in, at(ip.guest, 80))
		r.changes(t, calm+guests("drop"), map[string]int{"forward guests: would be dropped": 1})
		unanswered(t, in)
		leavesAs(t, out, ip.uplink)
	})
}

// The data connection of FTP goes with the one that announced it.
func TestReconcileFTP(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		policy := calm + "  - {name: lan, from: lan, to: wan, helpers: ftp}\n"
		r := reconciling(t, ip, policy)
		servesFTP(t, r.gateway, r.Server, 21)
		if err := os.WriteFile(filepath.Join(r.dir, "ftp/large"), make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, who := range []*lab.Host{r.LAN1, r.LAN2} {
			slowFetch(t, r, who)
		}
		noFTP := "forward: {rules: [{name: no-ftp, from: lan, to: wan, sources: \"" + ip.lan1 + "\", protocol: tcp, ports: 21, action: drop}]}\n"
		r.changes(t, policy+noFTP, map[string]int{"masquerade lan: would be dropped by forward no-ftp": 2})
		for host, want := range map[string]int{ip.lan1: 0, ip.lan2: 2} {
			n := 0
			for line := range strings.Lines(r.GW.Run(t, "conntrack", "-L", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[ip.v6()], "-p", "tcp")) {
				if strings.Contains(line, host+" ") && strings.Contains(line, "ESTABLISHED") {
					n++
				}
			}
			if n != want {
				t.Errorf("%s has %d open flows, want %d", host, n, want)
			}
		}
	})
}

// slowFetch has curl fetch something large by FTP, in active mode, so slowly
// that it is still at it.
func slowFetch(t *testing.T, r *reconciled, who *lab.Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	seen := dataOf(r.Server, 21)
	c := who.Command(ctx, "curl", "-sS", "--limit-rate", "1k", "-P", "-", "ftp://"+at(r.ip.outside, 21)+"/large", "-o", "/dev/null")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	if _, err := seen.Wait(1, lab.Patience); err != nil {
		t.Fatal(err)
	}
	r.Settle()
}

// What an apply was told to keep is kept, by the next one too.
func TestReconcileKeepFlows(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		forward := ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n")
		r := reconciling(t, ip, calm+forward)
		r.LAN1.ServeUDP(":80")
		u := socket(t, r.Neighbor, at(ip.uplink, 8080))
		answered(t, u, at(ip.lan1, 80))
		if c := r.reports(t, 2, "apply", calm, "--dry-run", "--keep-flows"); c.Total != 0 {
			t.Errorf("planned with --keep-flows: %v", c.said())
		}
		if c := r.reports(t, 0, "apply", calm, "--keep-flows"); c.Total != 0 || !c.Different {
			t.Errorf("applied with --keep-flows: %+v", c)
		}
		answered(t, u, at(ip.lan1, 80))
		if c := r.reports(t, 0, "apply", calm); c.Total != 0 || c.Different {
			t.Errorf("applied again: %+v", c)
		}
		answered(t, u, at(ip.lan1, 80))
		r.undisturbed(t)
	})
}

// An apply that is killed when its rules are in force leaves flows that they
// contradict. The next one cuts them, whatever else it does.
func TestReconcileAfterCrash(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		forward := func(target string) string {
			return calm + ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \""+target+":80\"}\n")
		}
		for _, step := range []string{"commit", "remember"} {
			for name, next := range map[string]string{"the same policy": forward("$lan2"), "another one": calm} {
				t.Run(name+" after "+step, func(t *testing.T) {
					r := reconciling(t, ip, forward("$lan1"))
					r.LAN1.ServeUDP(":80")
					r.LAN2.ServeUDP(":80")
					u := socket(t, r.Neighbor, at(ip.uplink, 8080))
					answered(t, u, at(ip.lan1, 80))
					r.killedAfter(t, step, forward("$lan2"))
					answered(t, u, at(ip.lan1, 80))
					during := socket(t, r.Neighbor, at(ip.uplink, 8080)) // by the policy that was not remembered
					answered(t, during, at(ip.lan2, 80))
					want := map[string]int{"port_forward game: would go to " + at(ip.lan2, 80): 1}
					if next == calm {
						want = map[string]int{"port_forward game: would be dropped by forward default": 2}
					}
					r.changes(t, next, want)
					if next == calm {
						together(func() { unanswered(t, u) }, func() { unanswered(t, during) })
						return
					}
					answered(t, u, at(ip.lan2, 80))
					answered(t, during, at(ip.lan2, 80))
				})
			}
		}
	})
}

// killedAfter applies a policy with a program that is killed at the end of a
// step.
func (r *reconciled) killedAfter(t *testing.T, step, policy string) {
	t.Helper()
	cmd, _ := r.stoppedAfter(t, step, policy)
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
}

// stoppedAfter applies a policy with a program that waits at the end of a step.
// It tells of each step in a line to a pipe that has no room for that one.
func (r *reconciled) stoppedAfter(t *testing.T, step, policy string) (cmd *exec.Cmd, told *os.File) {
	t.Helper()
	const room, line = 4096, len("read           ") + len("    0.000 ms\n")
	steps := []string{"parse", "facts", "compile", "encode", "read", "state", "commit", "read back", "sysctls", "remember"}
	told, tells, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer tells.Close()
	t.Cleanup(func() { told.Close() })
	if n, err := unix.FcntlInt(tells.Fd(), unix.F_SETPIPE_SZ, room); err != nil || n != room {
		t.Fatalf("a pipe of %d bytes: %v", n, err)
	}
	if _, err := tells.Write(make([]byte, room-line*slices.Index(steps, step)-line/2)); err != nil {
		t.Fatal(err)
	}
	// Iptables commits nat last, and where packets go in it: what is before that can
	// be seen alone.
	last := func() (out string) {
		for line := range strings.Lines(r.ruleset(t)) {
			if r.variant == "" || strings.Contains(line, "*nat") && strings.Contains(line, " DNAT ") {
				out += line
			}
		}
		return out
	}
	before := last()
	kept, _ := os.ReadFile(r.dir + "/state/rules")
	cmd = exec.Command(r.program, "apply", "--timings", "--netns", r.GW.NetNS(), "--state-dir", r.dir+"/state", r.write(t, policy))
	cmd.Stderr = tells
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := func() bool { return last() != before }
	if step == "remember" {
		// The rules that were read back are kept last.
		done = func() bool {
			state, _ := os.ReadFile(r.dir + "/state/state.json")
			rules, err := os.ReadFile(r.dir + "/state/rules")
			return strings.Contains(string(state), `"pending"`) && err == nil && !bytes.Equal(rules, kept)
		}
	}
	if !within(done) {
		_ = cmd.Process.Kill()
		t.Fatalf("it does not come to the end of %q", step)
	}
	return cmd, told
}

// Where it cannot be noted that flows are cut, apply says so by its exit code:
// the rules are in force, and not all is done.
func TestReconcileFails(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		forward := ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n")
		r := reconciling(t, ip, calm+forward)
		r.LAN1.ServeUDP(":80")
		u := socket(t, r.Neighbor, at(ip.uplink, 8080))
		answered(t, u, at(ip.lan1, 80))
		cmd, told := r.stoppedAfter(t, "remember", calm)
		if err := os.Rename(r.dir+"/state", r.dir+"/away"); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(told)
		if err != nil {
			t.Fatal(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(text), "warning: the policy is in force, but") {
			t.Errorf("exit code %d, want 2\n%s", cmd.ProcessState.ExitCode(), bytes.Trim(text, "\x00"))
		}
		unanswered(t, u)
		r.undisturbed(t)
	})
}

// The program says it in words, too.
func TestReconcileWords(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		forward := func(target string) string {
			return calm + ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \""+target+"\"}\n")
		}
		r := reconciling(t, ip, forward("$lan1"))
		listens(r.LAN1, 8080)
		listens(r.LAN2, 8080)
		for range 12 {
			answered(t, socket(t, r.Neighbor, at(ip.uplink, 8080)), at(ip.lan1, 8080))
		}
		words := " 12 flows: 12 of port_forward game, which would go to " + at(ip.lan2, 8080) + "\n  udp "
		if out := r.ipmasq(t, 2, "plan", r.write(t, forward("$lan2"))); !strings.Contains(out, "would cut"+words) || !strings.Contains(out, "\n  ... and 2 more\n") {
			t.Errorf("plan says\n%s", out)
		}
		if out := r.apply(t, forward("$lan2")); !strings.Contains(out, "\ncut"+words) || !strings.Contains(out, "\n  ... and 2 more\n") {
			t.Errorf("apply says\n%s", out)
		}
		if out := r.apply(t, forward("$lan2")); strings.Contains(out, "cut") {
			t.Errorf("applied again it says\n%s", out)
		}
	})
}

// What conntrack knows of and our rules need not have seen: what a bridge
// carries between hosts of one network, and what is in a zone of conntrack.
func TestReconcileNotRouted(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, "", lab.BridgedLAN())
		if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
			r.GW.Sysctl("net.bridge.bridge-nf-call-iptables", "0")
			r.GW.Sysctl("net.bridge.bridge-nf-call-ip6tables", "0")
		}
		r.GW.Feed(t, `table inet foreign { chain pre { type filter hook prerouting priority -300; udp dport 7000 ct zone set 7; udp sport 7000 ct zone set 7; }; }`, "nft", "-f", "-")
		r.Server.ServeUDP(":7000")
		r.apply(t, calm+"  - {name: lan, from: lan, to: wan}\n")
		r.hold(t)
		// As a bridge shows it to conntrack (nf_conntrack_bridge).
		if err := r.GW.Do(func() error {
			return flood.Fill(1, func(_ int, e *flood.Entry) {
				e.Protocol = unix.IPPROTO_UDP
				e.Source, e.Destination = netip.MustParseAddrPort(at(ip.lan1, 4000)), netip.MustParseAddrPort(at(ip.lan2, 80))
			})
		}); err != nil {
			t.Fatal(err)
		}
		zoned := socket(t, r.LAN1, at(ip.outside, 7000))
		leavesAs(t, zoned, ip.uplink)
		r.changes(t, calm, map[string]int{})
		leavesAs(t, zoned, ip.uplink)
	})
}
