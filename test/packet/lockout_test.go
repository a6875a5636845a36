package packet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// shell is a shell on the gateway over a TCP connection, as sshd gives one.
type shell struct {
	t     *testing.T
	c     *lab.Conn
	lines *bufio.Reader
	said  int
}

// login opens one from a host to an address of the gateway.
func (g *gateway) login(t *testing.T, from *lab.Host, address string) *shell {
	t.Helper()
	var listener net.Listener
	err := g.GW.Do(func() (err error) {
		listener, err = net.Listen("tcp", at(address, 22))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	served := make(chan error, 1)
	go func() { served <- g.serveShell(listener) }()
	c, err := from.DialTCP(lab.Patience, at(address, 22), lab.NoGreeting())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil {
			t.Errorf("the shell: %v", err)
		}
	})
	return &shell{t: t, c: c, lines: bufio.NewReader(c)}
}

// serveShell runs a shell whose three streams are the connection.
func (g *gateway) serveShell(listener net.Listener) error {
	c, err := listener.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	stream, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer stream.Close()
	client, server := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
	ctx, cancel := context.WithTimeout(context.Background(), 12*lab.Patience)
	defer cancel()
	sh := g.GW.Command(ctx, "sh")
	sh.Env = append(os.Environ(), fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", client.IP, client.Port, server.IP, server.Port))
	sh.Stdin, sh.Stdout, sh.Stderr = stream, stream, stream
	return sh.Run()
}

// types sends a line, and gives what the shell will answer last.
func (s *shell) types(line string) (end string) {
	s.t.Helper()
	s.said++
	end = fmt.Sprintf("done-%d", s.said)
	if _, err := fmt.Fprintf(s.c, "%s\necho %s\n", line, end); err != nil {
		s.t.Fatal(err)
	}
	return end
}

// hears reads up to a line.
func (s *shell) hears(end string, within time.Duration) (text string, err error) {
	if err := s.c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return text, err
		}
		if line == end+"\n" {
			return text, nil
		}
		text += line
	}
}

// acknowledged waits until the other end has told that it has all that was typed.
func (s *shell) acknowledged() {
	s.t.Helper()
	raw, err := s.c.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(lab.Patience); ; time.Sleep(time.Millisecond) {
		waits := 0
		if failed := raw.Control(func(fd uintptr) { waits, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); failed != nil || err != nil {
			s.t.Fatal(failed, err)
		}
		if waits == 0 {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d bytes are not acknowledged", waits)
		}
	}
}

// unconfirmed says whether a policy waits to be confirmed, and how long it has yet.
func (g *gateway) unconfirmed(t *testing.T) (waits bool, left time.Duration) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "state", "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		Unconfirmed *struct {
			Deadline time.Duration `json:"deadline_ns"`
		} `json:"unconfirmed"`
	}
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	if state.Unconfirmed == nil {
		return false, 0
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return true, state.Unconfirmed.Deadline - time.Duration(now.Nano())
}

// guards counts the processes that have the state folder open.
func (g *gateway) guards() (n int) {
	folder, err := os.Stat(filepath.Join(g.dir, "state"))
	if err != nil {
		return 0
	}
	open, _ := filepath.Glob("/proc/[0-9]*/fd/5")
	for _, fd := range open {
		if info, err := os.Stat(fd); err == nil && os.SameFile(info, folder) {
			n++
		}
	}
	return n
}

// cut sees that a session is cut while the policy waits, and lives on when that
// has gone back by itself: the very connection, and what was typed meanwhile.
func (g *gateway) cut(t *testing.T, s *shell) {
	t.Helper()
	end := s.types("true")
	if text, err := s.hears(end, 400*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the session is not cut: %q, %v", text, err)
	}
	if waits, _ := g.unconfirmed(t); !waits {
		t.Error("it is not the policy that cut the session")
	}
	if _, err := s.hears(end, 4*lab.Patience); err != nil {
		t.Fatalf("the session does not live on: %v", err)
	}
	// The state says so behind the last commit, and iptables has several.
	if _, left := g.unconfirmed(t); left > 0 {
		t.Errorf("the session lives on while the policy waits for another %v", left)
	}
	for range 3 {
		if _, err := s.hears(s.types("true"), lab.Patience); err != nil {
			t.Fatalf("the session does not live on: %v", err)
		}
	}
	for end := time.Now().Add(2 * lab.Patience); g.guards() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d guards are left", g.guards())
		}
	}
	if waits, _ := g.unconfirmed(t); waits {
		t.Error("the policy waits, and nothing is there to take it back")
	}
}

func (g *gateway) write(t *testing.T, name, policy string) (file string) {
	t.Helper()
	file = filepath.Join(g.dir, name)
	if err := os.WriteFile(file, []byte("version: 1\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// An administrator applies, over the very connection that the policy cuts. The
// answers leave by the first uplink, what comes arrives on the second, and that
// is what antispoof drops, before any rule lets open connections go on.
func TestLockOut(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.SecondUplink(), lab.WithoutGuest())
	const before = zones + "masquerade:\n  - {from: [lan, dmz], to: wan}\n"
	g := applied(t, topo, before)
	after := g.write(t, "after.yaml", zones+"  uplink2: {interfaces: [eth3], antispoof: true}\n"+strings.TrimPrefix(before, zones))
	rules := g.ruleset(t)
	each(t, func(t *testing.T, ip family) {
		s := g.login(t, topo.Server, ip.uplink2)
		if _, err := s.hears(s.types("true"), lab.Patience); err != nil {
			t.Fatalf("no session to begin with: %v", err)
		}
		text, err := s.hears(s.types(fmt.Sprintf("%s apply --confirm 3s --state-dir %s/state %s", g.program, g.dir, after)), 2*lab.Patience)
		if err != nil || !strings.Contains(text, "keeps the policy") {
			t.Fatalf("the apply: %v\n%s", err, text)
		}
		g.cut(t, s)
		if now := g.ruleset(t); now != rules {
			t.Errorf("the rules are not those before\n%s", difference(rules, now))
		}
		// The same one, and somebody confirms it from elsewhere: it stays cut.
		s.types(fmt.Sprintf("%s apply --confirm 60s --state-dir %s/state %s", g.program, g.dir, after))
		if _, err := s.hears(fmt.Sprintf("done-%d", s.said), 2*lab.Patience); err != nil {
			t.Fatal(err)
		}
		g.ipmasq(t, 0, "confirm")
		end := s.types("true")
		if text, err := s.hears(end, 400*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("what was confirmed does not hold: %q, %v", text, err)
		}
		g.ipmasq(t, 0, "rollback")
		if _, err := s.hears(end, 4*lab.Patience); err != nil {
			t.Errorf("after a rollback: %v", err)
		}
	})
	g.delete(t)
}

// The first apply finds connections that conntrack does not know. Back to
// nothing is no rules, no forwarding, every sysctl as it was, and the connection
// that was open.
func TestLockOutByTheFirstApply(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, ip family) {
		topo := lab.Gateway(t, lab.WithoutGuest())
		g := untouched(t, topo)
		file := g.write(t, "policy.yaml", zones+"masquerade:\n  - {from: [lan, dmz], to: wan}\ninput:\n  default: drop\n")
		s := g.login(t, topo.LAN1, ip.gwLAN)
		if _, err := s.hears(s.types("true"), lab.Patience); err != nil {
			t.Fatalf("no session to begin with: %v", err)
		}
		// What the gateway says first would make the connection known, be it that
		// it has got the command: it begins after that.
		quiet, begin := filepath.Join(g.dir, "quiet"), filepath.Join(g.dir, "begin")
		if err := unix.Mkfifo(begin, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(s.c, "read now <%s; %s apply --confirm 3s --state-dir %s/state %s >%s 2>&1\n", begin, g.program, g.dir, file, quiet); err != nil {
			t.Fatal(err)
		}
		s.acknowledged()
		if err := os.WriteFile(begin, []byte("now\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(2 * lab.Patience); ; time.Sleep(5 * time.Millisecond) {
			if text, _ := os.ReadFile(quiet); bytes.Contains(text, []byte("goes back to nothing in 3 s")) {
				break
			} else if time.Now().After(end) {
				t.Fatalf("the apply says\n%s", text)
			}
		}
		if g.GW.GetSysctl("net.ipv4.ip_forward") != "1" {
			t.Error("the first apply does not forward")
		}
		g.cut(t, s)
		if left := g.ruleset(t); left != g.rules {
			t.Errorf("rules are left\n%s", difference(g.rules, left))
		}
		if left := g.sysctls(t); left != g.sysctl {
			t.Errorf("sysctls are left\n%s", difference(g.sysctl, left))
		}
	})
}
