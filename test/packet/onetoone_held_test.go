package packet

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// warned runs the program on the gateway's policy and gives what it said on
// stderr.
func (g *gateway) warned(t *testing.T, code int, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), g.program, append(args, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state", filepath.Join(g.dir, "policy.yaml"))...)
	var stderr strings.Builder
	c.Stderr = &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || c.ProcessState.ExitCode() != code {
		t.Fatalf("ipmasq %v: %v, want exit code %d\n%s", args, err, code, &stderr)
	}
	return stderr.String()
}

// Neighbours ask for an outside address that lies in the uplink's own network.
// Where the gateway does not answer, apply and plan say so, and the command that
// they name mends it.
func TestOneToOneNotHeld(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	listens(topo.LAN1, 80)
	listens(topo.DMZ, 80)
	listens(topo.ISP, 80)
	mends := regexp.MustCompile("`(ip [^`]*)` mends it")
	each(t, func(t *testing.T, ip family) {
		first, second := ip.public(10), ip.public(23)
		target, entries := ip.dmz, ip.mapped(`
  - {name: host, zone: wan, outside: "$10", inside: "$lan1", expose: all}
  - {name: other, zone: wan, outside: "$23", inside: "$dmz", expose: all}
`, "$23", second)
		if !ip.v6() { // of a prefix ARP can be answered as a whole
			entries = strings.Replace(entries, "outside: \"203.0.113.23\", inside: \"192.168.2.10\"", "outside: 203.0.113.16/28, inside: 192.168.2.0/28", 1)
			second = "203.0.113.26"
		}
		g.apply(t, zones+entries)
		for _, args := range [][]string{{"apply"}, {"apply", "--dry-run"}, {"plan"}} {
			commands := mends.FindAllStringSubmatch(g.warned(t, 0, args...), -1)
			if len(commands) != 2 {
				t.Fatalf("%v names %q, want two commands", args, commands)
			}
		}
		nobody := func(err error) bool { return lab.IsTimeout(err) || lab.IsUnreachable(err) }
		fails(t, topo.Neighbor, at(first, 80), nobody)
		fails(t, topo.Neighbor, at(second, 80), nobody)
		lands(t, "tcp", topo.GW, at(first, 80), at(ip.lan1, 80), "") // who needs not ask
		for _, command := range mends.FindAllStringSubmatch(g.warned(t, 0, "plan"), -1) {
			words := strings.Fields(command[1])
			g.GW.Run(t, words[0], words[1:]...)
		}
		g.GW.Up("eth0") // waits for duplicate address detection
		topo.Neighbor.FlushNeighbors("eth0")
		for _, proto := range []string{"tcp", "udp"} {
			lands(t, proto, topo.Neighbor, at(first, 80), at(ip.lan1, 80), "")
			lands(t, proto, topo.Neighbor, at(second, 80), at(target, 80), "")
			lands(t, proto, topo.GW, at(ip.isp, 80), at(ip.isp, 80), ip.uplink)
		}
		if said := g.warned(t, 0, "plan"); said != "" {
			t.Errorf("it is mended, and plan says %s", said)
		}
	})
	g.delete(t)
}
