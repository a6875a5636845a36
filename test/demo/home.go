package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

// home is the network of the demo, and what prints it.
type home struct {
	t      lab.TB
	w      io.Writer
	ipmasq string
	dir    string // where the policy is; commands run there
	state  string
	step   int

	gateway             *lab.Host
	pc, server          *lab.Host // inside
	internet, neighbour *lab.Host // outside
	topology            *lab.Topology
}

// The addresses of the demo.
const (
	pcAddr       = lab.LAN2
	serverAddr   = lab.LAN1
	outsideAddr  = lab.GatewayUplink
	internetAddr = lab.Outside
)

const picture = `
  server 192.168.1.10 ──┐          ┌─────────┐          ┌── 198.51.100.9  internet
                        ├──── eth1 │ gateway │ ppp0 ────┤
  pc     192.168.1.11 ──┘          └─────────┘          └── 203.0.113.3   neighbour
                        192.168.1.1           203.0.113.2
`

func newHome(t lab.TB, w io.Writer) *home {
	topology := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "ppp0", LAN: "eth1"}), lab.WithoutDMZ(), lab.WithoutGuest())
	h := &home{
		t: t, w: w, ipmasq: built.Ipmasq(t), dir: topology.Dir(), state: filepath.Join(topology.Dir(), "state"),
		gateway: topology.GW, pc: topology.LAN2, server: topology.LAN1,
		internet: topology.Server, neighbour: topology.Neighbor, topology: topology,
	}
	// The neighbour tries what a neighbour can: it sends to inside addresses
	// by way of the gateway.
	h.neighbour.Route("192.168.1.0/24", outsideAddr)
	root, err := built.Root()
	h.must(err)
	text, err := os.ReadFile(filepath.Join(root, "examples", "home.yaml"))
	h.must(err)
	h.must(os.WriteFile(filepath.Join(h.dir, "home.yaml"), text, 0o644))
	return h
}

func (h *home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("demo: %v", err)
	}
}

// heading begins a step.
func (h *home) heading(text string) {
	h.step++
	fmt.Fprintf(h.w, "\n── %d. %s %s\n\n", h.step, text, strings.Repeat("─", max(3, 66-len(text))))
}

func (h *home) say(format string, args ...any) {
	fmt.Fprintf(h.w, format+"\n", args...)
}

// found prints what was tried and what came of it.
func (h *home) found(tried, format string, args ...any) {
	fmt.Fprintf(h.w, "  %-54s %s\n", tried, fmt.Sprintf(format, args...))
}

// shell prints and runs a command as a person would type it.
func (h *home) shell(name string, args ...string) {
	h.say("$ %s", strings.Join(append([]string{name}, quoted(args)...), " "))
	c := exec.Command(name, args...)
	c.Dir = h.dir
	out, err := c.CombinedOutput()
	h.must(err)
	h.print(string(out))
}

func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; strings.ContainsAny(a, " *$") {
			out[i] = "'" + a + "'"
		}
	}
	return out
}

func (h *home) print(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(h.w, "  %s", line)
	}
}

// run runs ipmasq, prints the command without the flags that only the demo
// needs, and its output. The output must hold all of the texts.
func (h *home) run(code int, args []string, holds ...string) {
	h.t.Helper()
	h.say("$ ipmasq %s", strings.Join(args, " "))
	var both bytes.Buffer
	h.start(code, args, &both, &both, holds)
	h.print(both.String())
}

// start runs ipmasq, whose output goes to the two writers.
func (h *home) start(code int, args []string, stdout, stderr *bytes.Buffer, holds []string) {
	h.t.Helper()
	if args[0] != "check" {
		args = append(args, "--netns", h.gateway.NetNS(), "--state-dir", h.state)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, h.ipmasq, args...)
	c.Dir = h.dir
	c.Stdout, c.Stderr = stdout, stderr
	err := c.Run()
	wrong := ""
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		wrong = err.Error()
	} else if got := c.ProcessState.ExitCode(); got != code {
		wrong = fmt.Sprintf("exit code %d, want %d", got, code)
	}
	for _, want := range holds {
		if wrong == "" && !strings.Contains(stdout.String(), want) {
			wrong = fmt.Sprintf("it does not say %q", want)
		}
	}
	if wrong != "" {
		h.print(stdout.String())
		h.t.Fatalf("demo: ipmasq %s: %s", args[0], wrong)
	}
}

// opens connects, and fails where that does not work.
func (h *home) opens(from *lab.Host, addr string, opts ...lab.DialOption) *lab.Conn {
	h.t.Helper()
	c, err := from.DialTCP(lab.Patience, addr, opts...)
	if err != nil {
		h.t.Fatalf("demo: %s should reach %s: %v", from.Name(), addr, err)
	}
	return c
}

// closed tries to connect, and fails where that works. It gives the reason in
// a person's words.
func (h *home) closed(from *lab.Host, addr string) string {
	h.t.Helper()
	_, err := from.DialTCP(2*lab.Silence, addr)
	switch {
	case err == nil:
		h.t.Fatalf("demo: %s reached %s, and must not", from.Name(), addr)
	case lab.IsRefused(err):
		return "refused"
	case lab.IsTimeout(err):
		return "no answer"
	case lab.IsUnreachable(err):
		return "unreachable"
	}
	return err.Error()
}
