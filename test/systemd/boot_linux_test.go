package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodPolicy = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
`

// withUnit is a machine whose boot starts one of our units.
func withUnit(t *testing.T, unit, policy string) *machine {
	t.Helper()
	m := newMachine(t)
	m.write("/etc/ipmasq/policy.yaml", policy)
	m.enable(unit, "/etc/systemd/system/")
	return m
}

func units() []string { return []string{"ipmasq.service", "ipmasq-apply.service"} }

// At boot the rules are in force, and forwarding is on, before anything configures the network; later the network is
// there, and nothing has changed.
func TestBoot(t *testing.T) {
	for _, unit := range units() {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			m := withUnit(t, unit, goodPolicy)
			m.boot()
			ready := m.moment(unit, "ActiveEnterTimestamp")
			before := m.moment("network-pre.target", "ActiveEnterTimestamp")
			network := m.moment("systemd-networkd.service", "InactiveExitTimestamp")
			if ready > before || before > network {
				t.Errorf("the unit is ready at %d, network-pre.target is reached at %d, the network is begun at %d\n%s", ready, before, network, m.journal())
			}
			if !m.hasRules() || m.forwarding() != "1" {
				t.Errorf("rules: %v, forwarding: %s", m.hasRules(), m.forwarding())
			}
			m.until("eth1 has its address", func() bool { return strings.Contains(m.run("ip", "-4", "addr", "show", "eth1"), "192.168.1.1/24") })
			m.run("ipmasq", "status")
			m.masquerades()
			if mode := strings.TrimSpace(m.run("stat", "-c", "%a %U", "/var/lib/ipmasq")); mode != "700 root" {
				t.Errorf("the state folder is %s", mode)
			}
			// All that is done to a unit, and the rules are there.
			for _, verb := range []string{"reload", "restart", "stop"} {
				m.run("systemctl", verb, unit)
				if !m.hasRules() || m.forwarding() != "1" {
					t.Errorf("after %s: rules: %v, forwarding: %s\n%s", verb, m.hasRules(), m.forwarding(), m.journal())
				}
			}
		})
	}
}

// masquerades has a host of the inside send a packet, and looks at what becomes of it.
func (m *machine) masquerades() {
	m.t.Helper()
	for _, args := range []string{
		"link set far0 up", "netns add host", "link set far1 netns host", "-n host addr add 192.168.1.10/24 dev far1",
		"-n host link set far1 up", "-n host route add default via 192.168.1.1",
	} {
		m.run(append([]string{"ip"}, strings.Fields(args)...)...)
	}
	m.until("a packet from inside is masqueraded", func() bool {
		m.run("ip", "netns", "exec", "host", "bash", "-c", "echo packet >/dev/udp/203.0.113.9/9")
		flows := m.run("conntrack", "-L", "-p", "udp", "--src", "192.168.1.10", "--dst", "203.0.113.9")
		return strings.Contains(flows, "src=203.0.113.9 dst=203.0.113.2 ")
	})
}

// A policy with mistakes at boot: nothing is forwarded, the network is there all the same, and the unit says why.
// A good policy mends it.
func TestBootWithBadPolicy(t *testing.T) {
	for _, unit := range units() {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			m := withUnit(t, unit, strings.Replace(goodPolicy, "to: wan", "to: wlan", 1))
			m.boot()
			if m.hasRules() || m.forwarding() != "0" {
				t.Errorf("rules: %v, forwarding: %s", m.hasRules(), m.forwarding())
			}
			if state, code := m.property(unit, "ActiveState"), m.property(unit, "ExecMainStatus"); state != "failed" || code != "3" {
				t.Errorf("the unit is %s with exit code %s", state, code)
			}
			m.until("eth1 has its address", func() bool { return strings.Contains(m.run("ip", "-4", "addr", "show", "eth1"), "192.168.1.1/24") })
			if text := m.journal(); !strings.Contains(text, "/etc/ipmasq/policy.yaml:6:21") {
				t.Errorf("the journal does not say what is wrong:\n%s", text)
			}
			m.write("/etc/ipmasq/policy.yaml", goodPolicy)
			m.run("systemctl", "restart", unit)
			if !m.hasRules() || m.forwarding() != "1" {
				t.Errorf("mended: rules: %v, forwarding: %s", m.hasRules(), m.forwarding())
			}
			// A reload of what is wrong fails, and what is in force stays.
			m.write("/etc/ipmasq/policy.yaml", "version: 1\nmasquerades: []\n")
			m.fails("systemctl", "reload", unit)
			if !m.hasRules() || m.property(unit, "ActiveState") != "active" {
				t.Errorf("after a bad reload: rules: %v, the unit is %s", m.hasRules(), m.property(unit, "ActiveState"))
			}
		})
	}
}

// One of the units ends the other: two of them would fight.
func TestUnitsConflict(t *testing.T) {
	t.Parallel()
	m := withUnit(t, "ipmasq-apply.service", goodPolicy)
	m.boot()
	m.run("systemctl", "start", "ipmasq.service")
	if state := m.property("ipmasq-apply.service", "ActiveState"); state != "inactive" {
		t.Errorf("ipmasq-apply.service is %s", state)
	}
	m.run("systemctl", "start", "ipmasq-apply.service")
	if state := m.property("ipmasq.service", "ActiveState"); state != "inactive" || !m.hasRules() {
		t.Errorf("ipmasq.service is %s, rules: %v", state, m.hasRules())
	}
}

// The daemon feeds the watchdog; one that hangs is killed and started again, and the rules are in force meanwhile.
// It has one capability.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	const unit = "ipmasq.service"
	m := withUnit(t, unit, goodPolicy)
	m.write("/etc/systemd/system/ipmasq.service.d/test.conf", "[Service]\nWatchdogSec=2s\nRestartSec=0\n")
	m.boot()
	pid := m.property(unit, "MainPID")
	if status := m.run("cat", fmt.Sprintf("/proc/%s/status", pid)); !strings.Contains(status, "CapEff:\t0000000000001000\n") ||
		!strings.Contains(status, "CapBnd:\t0000000000001000\n") {
		t.Errorf("the daemon has more than CAP_NET_ADMIN, or less:\n%s", status)
	}
	first := m.moment(unit, "WatchdogTimestamp")
	m.until("the watchdog was fed for longer than it waits", func() bool { return m.moment(unit, "WatchdogTimestamp") > first+3_000_000 })
	if now := m.property(unit, "MainPID"); now != pid || m.property(unit, "NRestarts") != "0" {
		t.Fatalf("the daemon was started again: process %s, then %s\n%s", pid, now, m.journal())
	}
	m.run("kill", "-STOP", pid)
	m.until("the daemon is started again", func() bool {
		return m.property(unit, "NRestarts") == "1" && m.property(unit, "ActiveState") == "active"
	})
	if !m.hasRules() || m.forwarding() != "1" {
		t.Errorf("rules: %v, forwarding: %s", m.hasRules(), m.forwarding())
	}
}

// A policy that was in force before the machine was started is known. The daemon puts it in force where its files have
// become wrong; what is applied once is not, and nothing is forwarded then.
func TestBootAgainWithBadPolicy(t *testing.T) {
	for _, unit := range units() {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			m := withUnit(t, unit, goodPolicy)
			m.boot()
			m.write("/etc/ipmasq/policy.yaml", "version: 1\nmasquerades: []\n")
			m.boot()
			forwarding := map[bool]string{true: "1", false: "0"}[unit == "ipmasq.service"]
			if m.forwarding() != forwarding || m.hasRules() != (forwarding == "1") {
				t.Errorf("rules: %v, forwarding: %s, want %s\n%s", m.hasRules(), m.forwarding(), forwarding, m.journal())
			}
		})
	}
}

// A policy that nobody has confirmed before the machine was started again is not in force, whatever the files say: the
// one before is.
func TestBootUnconfirmed(t *testing.T) {
	for _, unit := range units() {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			m := withUnit(t, unit, goodPolicy)
			m.boot()
			// The daemon would apply what it watches by itself, for good, if it came first.
			_, _ = m.try("systemctl", "kill", "--signal=STOP", unit)
			m.write("/etc/ipmasq/policy.yaml", strings.Replace(goodPolicy, "{from: lan, to: wan}", "{name: other, from: lan, to: wan}", 1))
			m.run("systemd-run", "--unit=session.service", "ipmasq", "apply", "--confirm", "1h")
			m.until("the other policy is in force", func() bool { return strings.Contains(m.run("nft", "list", "ruleset"), "masquerade other") })
			m.until("that is on the disk", func() bool {
				out, _ := m.try("ipmasq", "status")
				return strings.Contains(out, "confirm")
			})
			m.boot()
			if m.forwarding() != "1" || !m.hasRules() || strings.Contains(m.run("nft", "list", "ruleset"), "masquerade other") {
				t.Errorf("rules: %v, forwarding: %s\n%s\n%s", m.hasRules(), m.forwarding(), m.run("nft", "list", "ruleset"), m.journal())
			}
		})
	}
}

// Without confirmation the machine goes back, though the session that applied the policy is gone with all its processes.
func TestGuardSurvivesTheSession(t *testing.T) {
	t.Parallel()
	m := withUnit(t, "ipmasq-apply.service", goodPolicy)
	m.boot()
	m.write("/other.yaml", strings.Replace(goodPolicy, "{from: lan, to: wan}", "{name: other, from: lan, to: wan}", 1))
	// A session is a scope: its processes are killed with it.
	m.run("systemd-run", "--unit=session.service", "ipmasq", "apply", "--confirm", "5s", "/other.yaml")
	other := func() bool { return strings.Contains(m.run("nft", "list", "ruleset"), "masquerade other") }
	m.until("the other policy is in force", other)
	_, _ = m.try("systemctl", "kill", "--signal=KILL", "session.service")
	m.until("the policy before is in force again", func() bool { return m.hasRules() && !other() })
	if m.forwarding() != "1" {
		t.Error("forwarding is off")
	}
}

// The daemon's unit lets it see who changes its rules.
func TestDaemonSeesOthers(t *testing.T) {
	t.Parallel()
	m := withUnit(t, "ipmasq.service", goodPolicy)
	m.boot()
	m.run("nft", "flush", "ruleset")
	m.until("the rules are back", m.hasRules)
	m.until("the journal says who it was", func() bool {
		return strings.Contains(m.run("journalctl", "--no-pager", "-u", "ipmasq.service"), "nft (pid ")
	})
}

// Metrics take what docs/systemd.md says, and with it they come.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := withUnit(t, "ipmasq.service", goodPolicy)
	m.write("/etc/systemd/system/ipmasq.service.d/metrics.conf", `[Service]
ExecStart=
ExecStart=ipmasq run --metrics 9477
RestrictAddressFamilies=AF_INET AF_INET6
IPAddressAllow=localhost
`)
	m.boot()
	var text string
	m.until("metrics come", func() (ok bool) {
		out, err := m.try("curl", "-sS", "-m", "2", "http://127.0.0.1:9477/metrics")
		text = out
		return err == nil
	})
	if !strings.Contains(text, "ipmasq_") {
		t.Errorf("metrics:\n%s", text)
	}
}

// A policy that everybody can write is none: nothing is forwarded, and the journal says how to mend that.
func TestBootWithWritablePolicy(t *testing.T) {
	for _, unit := range units() {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			m := withUnit(t, unit, goodPolicy)
			m.check(os.Chmod(filepath.Join(m.root, "etc/ipmasq/policy.yaml"), 0o666))
			m.write("/etc/systemd/system/ipmasq.service.d/test.conf", "[Service]\nTimeoutStartSec=3s\nRestartSec=1h\n")
			m.boot()
			if m.hasRules() || m.forwarding() != "0" {
				t.Errorf("rules: %v, forwarding: %s", m.hasRules(), m.forwarding())
			}
			if text := m.journal(); !strings.Contains(text, "chmod go-w /etc/ipmasq/policy.yaml mends that") {
				t.Errorf("the journal does not say how to mend it:\n%s", text)
			}
		})
	}
}
