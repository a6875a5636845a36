package packet

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
	"golang.org/x/sys/unix"
)

// gateway is the gateway of a topology with ipmasq on it.
type gateway struct {
	*lab.Topology
	dir           string // of the policy and the state
	program       string
	rules, sysctl string // before the first apply
	variant       string // of iptables; "" is nftables
}

// untouched is a gateway before its first apply. What delete has to bring back
// is what it finds now.
func untouched(t *testing.T, topo *lab.Topology) *gateway {
	t.Helper()
	g := &gateway{Topology: topo, dir: topo.Dir(), variant: chosen(t)}
	if g.variant != "iptables-legacy" {
		lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	}
	g.program = variant.Program(t, g.dir, g.variant, built.Ipmasq(t))
	g.rules, g.sysctl = g.ruleset(t), g.sysctls(t)
	return g
}

// applied is a gateway with a policy in force.
func applied(t *testing.T, topo *lab.Topology, policy string) *gateway {
	t.Helper()
	g := untouched(t, topo)
	g.apply(t, policy)
	return g
}

// apply writes a policy file and applies it. It gives what ipmasq printed.
func (g *gateway) apply(t *testing.T, policy string, flags ...string) string {
	t.Helper()
	file := filepath.Join(g.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return g.ipmasq(t, 0, "apply", append(flags, file)...)
}

// ipmasq runs the program on the gateway and gives what it printed to stdout.
// A command may be of two words, such as "connections list". Another exit code fails the test.
func (g *gateway) ipmasq(t *testing.T, code int, command string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*lab.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, g.program, slices.Concat(strings.Fields(command), []string{"--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args)...)
	var stdout, stderr strings.Builder
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if refused := g.refused(stderr.String()); refused != "" && code != 3 && c.ProcessState.ExitCode() == 3 {
		g.skips(t, refused)
	}
	if err != nil && !errors.As(err, &exit) || c.ProcessState.ExitCode() != code {
		t.Fatalf("ipmasq %s: %v, want exit code %d\n%s%s", command, err, code, &stdout, &stderr)
	}
	return stdout.String()
}

// delete deletes, and sees that nothing is left.
func (g *gateway) delete(t *testing.T) {
	t.Helper()
	g.ipmasq(t, 0, "delete")
	if left := g.ruleset(t); left != g.rules {
		t.Errorf("delete left rules behind\n%s", difference(g.rules, left))
	}
	if left := g.sysctls(t); left != g.sysctl {
		t.Errorf("delete left sysctls behind\n%s", difference(g.sysctl, left))
	}
}

// entry is an entry of the policy as status shows it.
type entry struct {
	Section        string `json:"section"`
	Name           string `json:"name"`
	NewFlows       uint64 `json:"new_flows"`
	RefusedPackets uint64 `json:"refused_packets"`
	LeaksStopped   uint64 `json:"leaks_stopped"`
	LimitStopped   uint64 `json:"limit_stopped"`
}

// entries reads the counters of all entries. Drift against the policy fails
// the test.
func (g *gateway) entries(t *testing.T) []entry {
	t.Helper()
	var status struct{ Entries []entry }
	out := g.ipmasq(t, 0, "status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return status.Entries
}

// entry is the one of a section and name, such as "masquerade lan-wan".
func (g *gateway) entry(t *testing.T, name string) entry {
	t.Helper()
	all := g.entries(t)
	for _, e := range all {
		if e.Section+" "+e.Name == name {
			return e
		}
	}
	t.Fatalf("status knows no entry %q: %+v", name, all)
	return entry{}
}

// ruleset is everything that the gateway has in nftables, without counters.
func (g *gateway) ruleset(t *testing.T) string {
	t.Helper()
	if g.variant != "" {
		return g.saved(t)
	}
	return g.GW.Run(t, "nft", "-s", "list", "ruleset")
}

// sysctls are the gateway's settings.
func (g *gateway) sysctls(t *testing.T) string {
	t.Helper()
	all, room := make([]byte, 0, 1<<18), make([]byte, 1<<16)
	err := g.GW.Do(func() error {
		for _, dir := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/net/netfilter"} {
			if dir == "/proc/sys/net/ipv6" && !lab.HasIPv6() {
				continue
			}
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				// What logs is known to the whole machine, once its module is there, and
				// so is the size of the table, which floods of other packages change.
				if err != nil || d.IsDir() || strings.Contains(path, "/nf_log/") ||
					d.Name() == "nf_conntrack_count" || d.Name() == "nf_conntrack_max" {
					return err
				}
				// There are a thousand: os.ReadFile asks the kernel three times as much.
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil // some can only be written
				}
				defer unix.Close(fd)
				if n, err := unix.Read(fd, room); err == nil {
					all = append(append(append(all, path...), " = "...), room[:n]...)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	var out strings.Builder
	list := func(sign string, from, other string) {
		known := map[string]bool{}
		for line := range strings.Lines(other) {
			known[line] = true
		}
		for line := range strings.Lines(from) {
			if !known[line] {
				out.WriteString(sign + strings.TrimSuffix(line, "\n") + "\n")
			}
		}
	}
	list("- ", before, after)
	list("+ ", after, before)
	return out.String()
}
