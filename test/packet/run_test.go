package packet

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// daemon is ipmasq run on a gateway.
type daemon struct {
	*gateway
	cmd   *exec.Cmd
	lines chan string // what it logs
	told  chan string // what it tells the service manager
	ended chan struct{}
	mu    sync.Mutex
	all   []string
}

// runs starts the daemon on policy files, with arguments before them.
func (g *gateway) runs(t *testing.T, args ...string) *daemon {
	t.Helper()
	return g.runsWith(t, nil, args...)
}

func (g *gateway) runsWith(t *testing.T, environment []string, args ...string) *daemon {
	t.Helper()
	d := &daemon{gateway: g, lines: make(chan string, 10000), told: make(chan string, 10000), ended: make(chan struct{})}
	d.cmd = exec.Command(g.program, append([]string{"run", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args...)...)
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+socket), environment...)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go d.hear(stderr)
	go d.listen(manager)
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.ended
		manager.Close()
		if t.Failed() {
			t.Logf("the daemon said\n%s", d.said())
		}
	})
	return d
}

func (d *daemon) hear(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		d.mu.Lock()
		d.all = append(d.all, lines.Text())
		d.mu.Unlock()
		d.lines <- lines.Text()
	}
	_ = d.cmd.Wait()
	close(d.ended)
}

// listen is the service manager.
func (d *daemon) listen(manager *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := manager.Read(buf)
		if err != nil {
			return
		}
		d.told <- string(buf[:n])
	}
}

func (d *daemon) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.all, "\n")
}

// logs waits for a line with all of these in it.
func (d *daemon) logs(t *testing.T, parts ...string) string {
	t.Helper()
	return waitFor(t, d, d.lines, "logs", parts...)
}

// tells waits for the service manager to be told so.
func (d *daemon) tells(t *testing.T, parts ...string) string {
	t.Helper()
	return waitFor(t, d, d.told, "tells", parts...)
}

func waitFor(t *testing.T, d *daemon, from chan string, verb string, parts ...string) string {
	t.Helper()
	limit := time.After(4 * lab.Patience)
	for {
		select {
		case text := <-from:
			missing := false
			for _, part := range parts {
				missing = missing || !strings.Contains(text, part)
			}
			if !missing {
				return text
			}
		case <-limit:
			t.Fatalf("the daemon never %s %q", verb, parts)
		}
	}
}

// stops ends the daemon by a signal.
func (d *daemon) stops(t *testing.T, by syscall.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(by); err != nil {
		t.Fatal(err)
	}
	d.ends(t, 0)
}

// ends waits for the end of the daemon.
func (d *daemon) ends(t *testing.T, code int) {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(4 * lab.Patience):
		t.Fatal("the daemon does not end")
	}
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("the daemon ended with %d, want %d", got, code)
	}
}

// file writes a file of the gateway's folder in place.
func (g *gateway) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wiped removes all rules there are, as others do who do not mind ours, and waits
// until the daemon says that it has put back its own.
func (d *daemon) wiped(t *testing.T) {
	t.Helper()
	d.wipes(t)
	if d.variant == "" {
		d.logs(t, "removed the table inet ipmasq")
		return
	}
	d.logs(t, "the chains of ipmasq in "+d.variant, ": put ")
	// It may have come between the two families.
	if !within(func() bool { _, err := d.GW.Try(d.program, "status", "--state-dir", d.dir+"/state"); return err == nil }) {
		t.Errorf("not all is put back: %s", d.complaints(t, 2, "status"))
	}
}

// wipes removes all rules there are.
func (g *gateway) wipes(t *testing.T) {
	t.Helper()
	if g.variant == "" {
		g.GW.Run(t, "nft", "flush", "ruleset")
		return
	}
	for _, family := range []string{"ip", "ip6"} {
		g.GW.Feed(t, "*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n", family+strings.TrimPrefix(g.variant, "ip")+"-restore")
	}
}

// replace writes a file as editors do: beside it, then renamed.
func (g *gateway) replace(t *testing.T, name, text string) {
	t.Helper()
	if err := os.Rename(g.file(t, name+".new", text), filepath.Join(g.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// forwards is a policy that sends port 80 outside to a port of lan1.
func forwards(port int) string {
	return "version: 1\n" + zones + fmt.Sprintf(`
masquerade:
  - {from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:%d", "[fd00:1::10]:%d"]}
`, port, port)
}

// leadsTo sees to which port of lan1 a new connection from outside comes.
func (g *gateway) leadsTo(t *testing.T, port int) {
	t.Helper()
	each(t, func(t *testing.T, ip family) {
		c, err := g.Server.DialTCP(lab.Patience, at(ip.uplink, 80))
		if err != nil {
			t.Errorf("from outside: %v", err)
			return
		}
		defer c.Close()
		if got := c.Seen().Name; got != fmt.Sprint("port", port) {
			t.Errorf("from outside to %s, want port %d", got, port)
		}
	})
}

// newForwarding is a gateway before its first apply, with servers on lan1.
func newForwarding(t *testing.T) *gateway {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutGuest())
	for port := 8081; port <= 8085; port++ {
		topo.LAN1.ServeTCP(fmt.Sprint(":", port), lab.As(fmt.Sprint("port", port)))
	}
	answering(topo.Server)
	return untouched(t, topo)
}

// A policy is in force as soon as its file is another one, however it became
// that.
func TestRunFiles(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	file := g.file(t, "etc/policy.yaml", forwards(8081))
	d := g.runs(t, file)
	d.logs(t, "ipmasq: applied", file, "+ port_forward web")
	g.leadsTo(t, 8081)
	g.replace(t, "etc/policy.yaml", forwards(8082))
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8082)
	g.file(t, "etc/policy.yaml", forwards(8083)) // in place
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8083)

	// One with mistakes is not.
	g.replace(t, "etc/policy.yaml", strings.Replace(forwards(8084), "port_forward", "port_forwards", 1))
	d.logs(t, "error: ", "policy.yaml:10:1", "port_forwards")
	d.logs(t, "stays in force")
	g.leadsTo(t, 8083)
	g.ipmasq(t, 0, "status")
	if w := g.complaints(t, 0, "status"); !strings.Contains(w, "does not apply the policy") || !strings.Contains(w, "policy.yaml:10:1") {
		t.Errorf("status warns\n%s", w)
	}
	g.replace(t, "etc/policy.yaml", forwards(8084))
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8084)
	if w := g.complaints(t, 0, "status"); w != "" {
		t.Errorf("status warns\n%s", w)
	}
	if out := g.ipmasq(t, 0, "status"); !strings.HasPrefix(out, fmt.Sprintf("daemon      pid %d, since ", d.cmd.Process.Pid)) {
		t.Errorf("status says\n%s", out)
	}

	// A folder that goes and comes, with all that is in it.
	if err := os.Rename(filepath.Join(g.dir, "etc"), filepath.Join(g.dir, "away")); err != nil {
		t.Fatal(err)
	}
	d.logs(t, "error: ", "no such file")
	g.leadsTo(t, 8084)
	g.file(t, "etc/policy.yaml", forwards(8085))
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8085)
	d.stops(t, syscall.SIGTERM)
	g.leadsTo(t, 8085)
	g.delete(t)
}

// Files that the policy names count as the policy does, and what they are
// read through may be links.
func TestRunLinks(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	text := func(port int) string {
		return "version: 1\n" + zones + `
masquerade:
  - {from: [lan, dmz], to: wan}
sets:
  friends: {file: friends.txt}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:` + fmt.Sprint(port) + `", "[fd00:1::10]:` + fmt.Sprint(port) + `"], sources: "@friends"}
`
	}
	const all, none = "198.51.100.0/24\n2001:db8:100::/64\n", "10.1.1.1\n"
	// As a config map is mounted: the names are links into a folder that is a
	// link itself.
	volume := filepath.Join(g.dir, "volume")
	swap := func(version, policy, friends string) {
		t.Helper()
		g.file(t, "volume/"+version+"/policy.yaml", policy)
		g.file(t, "volume/"+version+"/friends.txt", friends)
		for _, err := range []error{os.Symlink(version, volume+"/..new"), os.Rename(volume+"/..new", volume+"/..data")} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	swap("..1", text(8081), all)
	for _, name := range []string{"policy.yaml", "friends.txt"} {
		if err := os.Symlink("..data/"+name, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := g.runs(t, volume)
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8081)
	swap("..2", text(8082), all)
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8082)
	swap("..3", text(8082), none)
	d.logs(t, "ipmasq: applied")
	each(t, func(t *testing.T, ip family) { fails(t, g.Server, at(ip.uplink, 80), isNot) })
	g.file(t, "volume/..3/friends.txt", all)
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8082)
	// One that is missing is waited for.
	g.file(t, "volume/..3/policy.yaml", strings.Replace(text(8083), "friends.txt", "later/friends.txt", 1))
	d.logs(t, "cannot read", "later/friends.txt")
	g.leadsTo(t, 8082)
	g.file(t, "volume/later/friends.txt", all)
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8083)
	d.stops(t, syscall.SIGINT)
	g.delete(t)
}

// isNot is a connection that did not come about.
func isNot(err error) bool { return lab.IsTimeout(err) || lab.IsRefused(err) }

// complaints runs a command and gives what it printed to stderr.
func (g *gateway) complaints(t *testing.T, code int, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), g.program, append(args, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state")...)
	var stderr strings.Builder
	c.Stderr = &stderr
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != code {
		t.Fatalf("ipmasq %v: %v, want exit code %d\n%s", args, err, code, &stderr)
	}
	return stderr.String()
}
