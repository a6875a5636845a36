package packet

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/terminal"
)

// On a terminal commands that take long say that they are at work, after a
// second and every five. A watch and a question are no such thing.
func TestConnectionsOnTerminal(t *testing.T) {
	t.Parallel()
	g := applied(t, lab.Gateway(t, lab.WithoutGuest()), zones+"masquerade: {from: lan, to: wan}\n")
	listens(g.Server, 80)
	carries(t, opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink))
	for _, c := range []struct {
		command, ready, last string
		finish               func(*terminal.Terminal, *exec.Cmd)
		code                 int
	}{
		{"watch", " begin ", " end", func(_ *terminal.Terminal, c *exec.Cmd) { _ = c.Process.Signal(syscall.SIGINT) }, 0},
		{"kill --protocol tcp", "kill 1 connection? [y/N]", "not confirmed, and none was killed", func(x *terminal.Terminal, _ *exec.Cmd) { x.Type("n\r") }, 1},
	} {
		x := terminal.New(t, 200, 20)
		args := append([]string{"connections"}, strings.Fields(c.command)...)
		cmd := exec.Command(g.program, append(args, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state")...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = x.Program, x.Program, x.Program, x.Attributes()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		x.WaitText(c.ready)
		time.Sleep(1100 * time.Millisecond) // that nothing comes can only be waited for
		c.finish(x, cmd)
		x.WaitText(c.last)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.command, code, c.code)
		}
		if screen := terminal.Frame(x.Screen()); strings.Contains(screen, "still working") {
			t.Errorf("%s:\n%s", c.command, screen)
		}
	}
}
