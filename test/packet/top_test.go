package packet

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/terminal"
)

// live is connections top on a terminal.
type live struct {
	*terminal.Terminal
	*exec.Cmd
	ended chan error
}

// top runs connections top on a terminal. The environment is the usual one of a
// terminal, and what is added.
func (g *gateway) top(t *testing.T, width, height int, environment []string, args ...string) *live {
	t.Helper()
	x := &live{Terminal: terminal.New(t, width, height), ended: make(chan error, 1)}
	x.Cmd = exec.Command(g.program, append([]string{"connections", "top", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args...)...)
	x.Stdin, x.Stdout, x.Stderr = x.Program, x.Program, x.Program
	x.Env = append([]string{"TERM=xterm-256color", "LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}, environment...)
	x.SysProcAttr = x.Attributes()
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { x.ended <- x.Cmd.Wait() }()
	t.Cleanup(func() { _ = x.Process.Kill() })
	return x
}

// end waits for the program's end, and sees the terminal as it was.
func (x *live) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-x.ended:
		if err != nil {
			t.Errorf("top ends with %v\n%s", err, terminal.Frame(x.Screen()))
		}
	case <-time.After(6 * lab.Patience):
		t.Fatalf("top does not end\n%s", terminal.Frame(x.Screen()))
	}
	x.WaitRestored()
}

// row waits for a row whose fields fit a pattern.
func (x *live) row(what, pattern string) string {
	found := ""
	fits := regexp.MustCompile(`(?m)^` + pattern)
	x.Terminal.Wait(what+" ("+pattern+")", func(lines []string) bool {
		found = fits.FindString(strings.Join(lines, "\n"))
		return found != ""
	})
	return found
}

const topPolicy = zones + `
masquerade:
  - {name: office, from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10, family: ipv4}
gateway:
  conntrack: {accounting: true}
`

// talking has flows carry something until the test ends: UDP and TCP from the
// inside in both families, and a download by the port forward.
func talking(t *testing.T, g *gateway) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var running int
	keep := func(once func() error) {
		running++
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				if once() != nil {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond): // a rate, not a wait
				}
			}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range running {
			<-done
		}
	})
	payload := strings.Repeat("x", 1000)
	for _, remote := range []string{lab.Outside, lab.Outsidev6} {
		u, err := g.LAN1.DialUDP(at(remote, 53))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		keep(func() error { _ = u.Send(payload); _, err := u.Receive(lab.Patience); return err })
		for _, h := range []*lab.Host{g.LAN2, g.DMZ} {
			c, err := h.DialTCP(lab.Patience, at(remote, 80))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			keep(func() error { return c.Echo(lab.Patience, payload) })
		}
	}
	c, err := g.Server.DialTCP(lab.Patience, at(lab.GatewayUplink, 80))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	keep(func() error { return c.Echo(lab.Patience, payload) })
}

func topGateway(t *testing.T) *gateway {
	t.Helper()
	topo := lab.Gateway(t)
	topo.Server.ServeTCP(":80")
	topo.Server.ServeUDP(":53")
	topo.LAN1.ServeTCP(":80")
	return applied(t, topo, topPolicy)
}

// Real flows on a real terminal: rates, views, keys, sizes and the end.
func TestTop(t *testing.T) {
	t.Parallel()
	g := topGateway(t)
	talking(t, g)
	x := g.top(t, 100, 30, nil, "--interval", "200ms")
	const rate = `[1-9][0-9.]*[kMG]?`
	numbers := func(n int) string { return strings.Repeat(` +`+rate, n) }
	x.row("a host that sends and receives", `192\.168\.1\.11 `+numbers(7)+`$`)
	x.row("its IPv6", `fd00:1::11 `+numbers(7)+`$`)
	x.row("all of them", `shown 7 flows, .*; sent `+rate+` k?M?bit/s`)
	x.row("how full the table is", `conntrack 7 of [0-9]+ flows \[\.{20}\] 0\.0 %`)
	t.Logf("by host\n%s", terminal.Frame(x.Screen()))

	x.Type("e")
	x.row("the masquerade's row", `masquerade office +6`+numbers(6)+`$`)
	x.row("the port forward's row", `port_forward web +1`+numbers(6)+`$`)
	x.Type("d")
	x.row("where they go", `198\.51\.100\.9 +3`)
	x.row("where the port forward leads", `192\.168\.1\.10 +1`)

	x.Type("f")
	x.row("UDP", `udp 192\.168\.1\.10:\d+ > 198\.51\.100\.9:53 `)
	x.Type("/port_forward")
	x.row("the flow of the port forward alone", `tcp 198\.51\.100\.9:\d+ > 203\.0\.113\.2:80 .*\n\n`)
	x.Type("\r")
	x.row("the filter", `ipmasq connections in \S+ .* only "port_forward", until Esc`)
	x.Type("\x1b")
	x.row("UDP again", `udp 192\.168\.1\.10:\d+ > 198\.51\.100\.9:53 `)

	x.Resize(140, 40)
	x.row("entry and state, where there is room", `tcp 198\.51\.100\.9:\d+ > 203\.0\.113\.2:80 +established +port_forward web +`+rate)
	x.Resize(180, 40)
	x.row("and the translation", `tcp 198\.51\.100\.9:\d+ > 203\.0\.113\.2:80 -> 198\.51\.100\.9:\d+ > 192\.168\.1\.10:80 +established +port_forward web +`+rate)
	t.Logf("by flow\n%s", terminal.Frame(x.Screen()))
	x.Resize(60, 12)
	x.Type("h")
	x.row("fewer columns", `HOST +FLOWS +BIT/S↓ +SENT +RECV$`)
	x.Resize(100, 30)
	x.row("all columns", `HOST +FLOWS +BIT/S↓ +SENT +RECV +PKT SENT +PKT RECV +BYTES$`)

	for range 3 { // to the names: back over the flows and the bytes
		x.Type("<")
	}
	x.row("sorted by bytes", `HOST .* BYTES↓$`)
	x.Type(">>r")
	x.row("by flows, the fewest first", `HOST +FLOWS↑`)
	x.Type("q")
	x.end(t)
}

// A kill asks first, and then the flow is gone for both ends: neither finds the
// other any more.
func TestTopKill(t *testing.T) {
	t.Parallel()
	g := topGateway(t)
	each(t, func(t *testing.T, ip family) {
		var server net.Conn
		var l net.Listener
		err := g.Server.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(ip.outside, "8080")); return err })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		accepted := make(chan error, 1)
		go func() {
			var err error
			server, err = l.Accept()
			accepted <- err
		}()
		client, err := g.LAN1.DialTCP(lab.Patience, at(ip.outside, 8080), lab.NoGreeting())
		if err = errors.Join(err, <-accepted); err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		defer server.Close()
		other, err := g.LAN2.DialTCP(lab.Patience, at(ip.outside, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()

		x := g.top(t, 80, 24, nil, "--interval", "200ms", "--destination-port", "80,8080", "--family", strings.ToLower(ip.name), "--by", "flow")
		x.row("both flows", `shown 2 flows`)
		x.Type("/:8080")
		x.row("the one that goes", `tcp .*:8080.*\n\n`)
		x.Type("\rk")
		x.WaitText("y/n? kill the flow tcp ")
		x.Type("n")
		x.WaitText("nothing is killed")
		if err := passesLine(server, client); err != nil {
			t.Errorf("nothing was killed, and: %v", err)
		}
		x.Type("k")
		x.WaitText("y/n? kill the flow tcp ")
		x.Type("y")
		x.WaitText("killed the flow tcp ")
		x.row("only the other one", `shown 1 flow,`)
		x.Type("q")
		x.end(t)

		if err := passesLine(server, client); !errors.Is(err, syscall.ECONNRESET) && !lab.IsTimeout(err) {
			t.Errorf("the server still reaches the client: %v", err)
		}
		if err := passesLine(client, server); err == nil {
			t.Error("the client still reaches the server")
		}
		carries(t, other)
	})
}

// passesLine sends a line from one end and reads it at the other.
func passesLine(from, to net.Conn) error {
	if _, err := io.WriteString(from, "hello\n"); err != nil {
		return err
	}
	if err := to.SetReadDeadline(time.Now().Add(lab.Silence)); err != nil {
		return err
	}
	_, err := bufio.NewReader(to).ReadString('\n')
	return err
}

// How it ends, and where it cannot begin.
func TestTopEnds(t *testing.T) {
	t.Parallel()
	g := topGateway(t)
	g.GW.Sysctl("net.netfilter.nf_conntrack_acct", "0")
	carries(t, opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink))

	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		x := g.top(t, 80, 24, []string{"NO_COLOR=1"}, "--interval", "200ms")
		x.row("a flow that is not counted", `192\.168\.1\.10 +1 +n/a +n/a`)
		x.row("why", `no rates: needs nf_conntrack_acct=1`)
		if x.Coloured(3) {
			t.Error("NO_COLOR is set, and there is colour")
		}
		if err := x.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		x.end(t)
	}

	dumb := g.top(t, 80, 24, []string{"TERM=dumb"})
	dumb.WaitText(`ipmasq: error: no terminal that can be drawn on: TERM is "dumb"`)
	dumb.WaitText("ipmasq: hint: --batch prints the same as text")
	var exit *exec.ExitError
	if err := <-dumb.ended; !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("on a dumb terminal: %v", err)
	}

	out := g.ipmasq(t, 0, "connections top", "--batch", "--samples", "2", "--interval", "100ms", "--by", "flow")
	if n := strings.Count(out, "tcp 192.168.1.10:"); n != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("two samples as text:\n%s", out)
	}
}
