package systemd

import (
	"strings"
	"testing"
)

const otherPolicy = goodPolicy + `port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}
`

// guards are the units that guard a policy which waits to be confirmed.
func (m *machine) guards() []string {
	m.t.Helper()
	var out []string
	for line := range strings.Lines(m.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ipmasq-guard-*")) {
		if fields := strings.Fields(line); len(fields) > 0 {
			out = append(out, fields[0])
		}
	}
	return out
}

// Where systemd runs the machine, the guard is a service of its own, which is
// there again when it is killed, and gone when it is over.
func TestGuard(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("/etc/ipmasq/policy.yaml", goodPolicy)
	m.write("/root/other.yaml", otherPolicy)
	m.boot()
	m.run("ipmasq", "apply")

	m.run("ipmasq", "apply", "--confirm", "5s", "/root/other.yaml")
	guards := m.guards()
	if len(guards) != 1 {
		t.Fatalf("guards are %v\n%s", guards, m.journal())
	}
	first := m.property(guards[0], "MainPID")
	m.run("kill", "-KILL", first)
	m.until("there is another guard", func() bool {
		pid := m.property(guards[0], "MainPID")
		return pid != first && pid != "0" && m.property(guards[0], "ActiveState") == "active"
	})
	if text := m.run("ipmasq", "status"); !strings.Contains(text, "unless ipmasq confirm keeps it") {
		t.Errorf("status:\n%s", text)
	}
	m.until("it goes back", func() bool { return !strings.Contains(m.run("nft", "list", "ruleset"), "port_forward web") })
	m.until("the guard is gone", func() bool { return len(m.guards()) == 0 })
	m.run("ipmasq", "plan")
	m.until("the journal says so", func() bool { return strings.Contains(m.journal(), "was not confirmed in time: the policy before (") })

	m.run("ipmasq", "apply", "--confirm", "60s", "/root/other.yaml")
	if len(m.guards()) != 1 {
		t.Fatalf("guards are %v\n%s", m.guards(), m.journal())
	}
	m.run("ipmasq", "confirm")
	m.until("the guard is gone", func() bool { return len(m.guards()) == 0 })
	m.run("ipmasq", "plan", "/root/other.yaml")
}
