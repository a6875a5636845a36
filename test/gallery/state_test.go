package gallery

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

func (g *gateway) state(name string) string { return filepath.Join(g.dir, "state", name) }

// rewrites changes a file of the state folder.
func rewrites(name string, change func(text string) string) func(t *testing.T, g *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		text, err := os.ReadFile(g.state(name))
		if err == nil {
			err = os.WriteFile(g.state(name), []byte(change(string(text))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// moves renames a file or folder beside the policy.
func moves(from, to string) func(t *testing.T, g *gateway) {
	return func(t *testing.T, g *gateway) {
		t.Helper()
		if err := os.Rename(filepath.Join(g.dir, from), filepath.Join(g.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
}

// daemon starts one, and waits until it holds the policy in force.
func (g *gateway) daemon(t *testing.T, program, state string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, program, "run", "--netns", g.GW.NetNS(), "--state-dir", state, g.file())
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait(); manager.Close() })
	if err := manager.SetReadDeadline(time.Now().Add(6 * lab.Patience)); err != nil {
		t.Fatal(err)
	}
	for told, buf := "", make([]byte, 4096); !strings.Contains(told, "READY=1"); {
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatalf("the daemon is not ready: %v", err)
		}
		told = string(buf[:n])
	}
}

// problem is what the daemon says of itself.
func (g *gateway) problem(t *testing.T) string {
	t.Helper()
	out, _, _ := g.try(t, "status", "-o", "json")
	var s struct{ Daemon struct{ Problem string } }
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s.Daemon.Problem
}

var stateExhibits = []exhibit{
	{
		name: "nothing applied", passes: out(), first: "nothing-applied", severity: "broken", evidence: "state: nothing was applied", mend: writes(home),
	},
	{
		name: "the first policy rolled back", breaks: func(t *testing.T, g *gateway) {
			g.write(t, home)
			g.run(t, 0, "apply", "--confirm", "60s", g.file())
			g.run(t, 0, "rollback")
		},
		passes: out(), first: "nothing-applied", severity: "broken", evidence: "history: the last apply", mend: writes(home),
	},
	{
		name: "state damaged", policy: home, breaks: rewrites("state.json", func(text string) string { return text[:len(text)/2] }),
		first: "state-unusable", severity: "broken", evidence: "state.json is cut off or damaged", mend: moves("state/state.json", "old.json"),
	},
	{
		name: "state of a later version", policy: home,
		breaks: rewrites("state.json", func(text string) string {
			return strings.Replace(text, `"format_version": 1`, `"format_version": 99`, 1)
		}),
		first: "state-unusable", severity: "broken", evidence: "format", mend: moves("state/state.json", "old.json"),
	},
	{
		name: "state folder that others can write", policy: home, breaks: func(t *testing.T, g *gateway) {
			if err := os.Chmod(g.state(""), 0o777); err != nil {
				t.Fatal(err)
			}
		},
		first: "state-unusable", severity: "broken", evidence: "/state", mend: func(t *testing.T, g *gateway) {
			if err := os.Chmod(g.state(""), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "state of another network namespace", breaks: func(t *testing.T, g *gateway) {
			g.write(t, counting)
			out, err := exec.Command(g.program, "apply", "--netns", g.ISP.NetNS(), "--state-dir", g.state(""), g.file()).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		},
		first: "state-unusable", severity: "broken", evidence: "is about another network namespace", mend: moves("state", "other"),
	},
	{
		name: "another state folder", policy: home, breaks: moves("state", "other"),
		first: "other-state", severity: "broken", evidence: "state: nothing was applied", mend: writes(home),
	},
	{
		name: "daemon of another state folder", policy: home,
		breaks: func(t *testing.T, g *gateway) { g.daemon(t, g.program, filepath.Join(g.dir, "other")) },
		first:  "other-daemon", severity: "broken", evidence: "ipmasq run",
		mend: func(t *testing.T, g *gateway) {
			until(t, "the daemon ends", func() bool {
				return !slices.ContainsFunc(g.doctor(t), func(f finding) bool { return f.ID == "other-daemon" })
			})
		},
	},
	{
		name: "daemon of an old version", policy: home,
		breaks: func(t *testing.T, g *gateway) {
			dir := t.TempDir()
			old := filepath.Join(dir, "ipmasq")
			// Not by this process: while it writes, another one that it starts holds the file too.
			if out, err := exec.Command("cp", built.Ipmasq(t), old).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			g.daemon(t, variant.Program(t, dir, g.variant, old), g.state(""))
			if err := os.Remove(old); err != nil {
				t.Fatal(err)
			}
		},
		first: "daemon-old", severity: "risk", evidence: "exe is deleted", byHand: "the test's daemon is no service",
	},
	{
		name: "daemon that does not take its file", policy: home,
		breaks: func(t *testing.T, g *gateway) {
			g.daemon(t, g.program, g.state(""))
			g.write(t, replaced(home, "from: lan", "from: lann"))
			until(t, "the daemon withholds the policy", func() bool { return g.problem(t) != "" })
		},
		first: "daemon-withholds", severity: "broken", evidence: "lann",
		mend: func(t *testing.T, g *gateway) {
			g.write(t, home)
			until(t, "the daemon takes the policy", func() bool { return g.problem(t) == "" })
		},
	},
	{
		name: "policy edited and not applied", policy: home, breaks: func(t *testing.T, g *gateway) { g.write(t, counting) },
		first: "policy-changed", severity: "risk", evidence: "is not what was applied",
	},
	{
		name: "policy that waits", breaks: func(t *testing.T, g *gateway) {
			g.write(t, counting)
			g.run(t, 0, "apply", "--confirm", "1h", g.file())
		},
		first: "policy-unconfirmed", severity: "note", evidence: "waits to be confirmed",
	},
	{
		name: "policy not confirmed before the machine stopped", policy: home, breaks: func(t *testing.T, g *gateway) {
			g.write(t, counting)
			g.run(t, 0, "apply", "--confirm", "1h", g.file())
			boot := regexp.MustCompile(`("boot": ")[^"]*`)
			rewrites("state.json", func(text string) string {
				return boot.ReplaceAllString(text, "${1}0c1d8b56-0000-4000-8000-000000000000")
			})(t, g)
		},
		first: "policy-lapsed", severity: "risk", evidence: "was not confirmed",
		mend: func(t *testing.T, g *gateway) { g.run(t, 0, "apply", g.file()) },
	},
	{
		name: "policy rolled back", policy: home, breaks: func(t *testing.T, g *gateway) {
			g.write(t, counting)
			g.run(t, 0, "apply", g.file())
			g.run(t, 0, "rollback")
			g.write(t, home)
		},
		first: "policy-withdrawn", severity: "note", evidence: "was withdrawn",
		mend: writes(counting),
	},
}

func TestState(t *testing.T) { show(t, stateExhibits) }

// What may not be looked at is said, with the capability that it takes, and is
// no finding.
func TestUnprivileged(t *testing.T) {
	lab.Require(t, lab.Binary("setpriv"))
	g := newGateway(t)
	g.write(t, counting)
	g.run(t, 0, "apply", g.file())
	c := exec.Command("nsenter", "--net="+g.GW.NetNS(), "setpriv", "--bounding-set=-all", "--inh-caps=-all", g.program, "doctor", "--state-dir", g.state(""))
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	_ = c.Run()
	if code := c.ProcessState.ExitCode(); code != 4 || !strings.HasPrefix(out.String(), "nothing is wrong with what could be looked at: looked at ") {
		t.Errorf("exit code %d\n%s%s", code, &out, &errs)
	}
	if !strings.Contains(errs.String(), "CAP_NET_ADMIN") {
		t.Errorf("it does not say what it lacks:\n%s", &errs)
	}
}
