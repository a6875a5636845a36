package packet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// watched is a `connections watch` that goes on, and the lines it has printed.
type watched struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout io.Closer
	done   chan struct{}
	stderr strings.Builder
	mu     sync.Mutex
	lines  []string
	came   *sync.Cond
}

// watches starts one, and waits until it has begun.
func (g *gateway) watches(t *testing.T, args ...string) *watched {
	t.Helper()
	w := &watched{t: t, done: make(chan struct{})}
	w.came = sync.NewCond(&w.mu)
	w.cmd = exec.Command(g.program, append([]string{"connections", "watch", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state"}, args...)...)
	w.cmd.Stderr = &w.stderr
	stdout, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.stdout = stdout
	t.Cleanup(func() { _ = w.cmd.Process.Kill(); <-w.done })
	go func() {
		defer close(w.done)
		for s := bufio.NewScanner(stdout); s.Scan(); w.came.Broadcast() {
			w.mu.Lock()
			w.lines = append(w.lines, s.Text())
			w.mu.Unlock()
		}
	}()
	w.sees("begin", func(line string) bool { return strings.Contains(line, "begin") })
	return w
}

// sees waits for a line, and gives it.
func (w *watched) sees(what string, is func(line string) bool) string {
	w.t.Helper()
	late := false
	timer := time.AfterFunc(2*lab.Patience, func() { w.mu.Lock(); late = true; w.mu.Unlock(); w.came.Broadcast() })
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for seen := 0; ; {
		for ; seen < len(w.lines); seen++ {
			if is(w.lines[seen]) {
				return w.lines[seen]
			}
		}
		if late {
			w.t.Fatalf("the watch does not print %s, but at its end\n%s%s", what, strings.Join(w.lines[max(0, len(w.lines)-5):], "\n"), &w.stderr)
		}
		w.came.Wait()
	}
}

// ends asks it to end, which has to be well.
func (w *watched) ends(signal syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(signal); err != nil {
		w.t.Fatal(err)
	}
	<-w.done
	if err, said := w.cmd.Wait(), w.said(); err != nil || said != "" {
		w.t.Errorf("the watch ended with %v\n%s", err, said)
	}
	if last := w.lines[len(w.lines)-1]; !strings.Contains(last, "end") {
		w.t.Errorf("the last line is %s", last)
	}
}

// said is what it has to say beside its log, once it has ended; but not that an
// ordinary user gets less room for messages.
func (w *watched) said() string {
	var out strings.Builder
	for line := range strings.Lines(w.stderr.String()) {
		if !strings.HasPrefix(line, "ipmasq: hint: the kernel keeps ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// logged is a line of the log in JSON.
type logged struct {
	FormatVersion int `json:"format_version"`
	Event         string
	Time          time.Time
	Protocol      string
	Before, After struct {
		Source, Destination string
		SourcePort          uint16 `json:"source_port"`
		DestinationPort     uint16 `json:"destination_port"`
	}
	Entry, From, To string
	Duration        *float64
	Sent, Received  struct{ Packets, Bytes uint64 }
}

// logs waits for an event with this source before translation.
func (w *watched) logs(event string, source netip.AddrPort) (l logged) {
	w.t.Helper()
	w.sees(fmt.Sprintf("%s of %v", event, source), func(line string) bool {
		l = logged{}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			w.t.Errorf("%s: %v", line, err)
		}
		return l.Event == event && l.Before.Source == source.Addr().String() && l.Before.SourcePort == source.Port()
	})
	if l.FormatVersion != 1 || time.Since(l.Time) > time.Minute || time.Since(l.Time) < 0 {
		w.t.Errorf("%+v", l)
	}
	return l
}

const watchedPolicy = zones + `
masquerade:
  - {name: home, from: lan, to: wan, outside_ports: 40000-40099}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8080, to: ["192.168.1.10:80", "[fd00:1::10]:80"]}
gateway:
  conntrack: {accounting: true}
`

// The log tells who had an outside address and port, and for how long.
func TestWatch(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	g := applied(t, topo, watchedPolicy)
	all := g.watches(t, "-o", "json")
	forwards := g.watches(t, "-o", "json", "--entry", "web")
	table := g.watches(t, "--events", "new,destroy", "--protocol", "tcp")
	each(t, func(t *testing.T, ip family) {
		conn := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		carries(t, conn)
		outside, inside := conn.Seen().Peer, conn.Local()
		l := all.logs("new", inside)
		if l.Protocol != "tcp" || l.Entry != "masquerade home" || l.From != "lan" || l.To != "wan" || l.Duration != nil ||
			l.Before.Destination != ip.outside || l.Before.DestinationPort != 80 ||
			l.After.Source != outside.Addr().String() || l.After.SourcePort != outside.Port() || l.After.Destination != ip.outside {
			t.Errorf("%v was %v outside, and the log has %+v", inside, outside, l)
		}
		in := opens(t, g.Neighbor, at(ip.uplink, 8080), ip.neighbor)
		for _, w := range []*watched{all, forwards} {
			if l := w.logs("new", in.Local()); l.Entry != "port_forward web" || l.From != "wan" || l.To != "lan" ||
				l.Before.Destination != ip.uplink || l.Before.DestinationPort != 8080 || l.After.Destination != ip.lan1 || l.After.DestinationPort != 80 {
				t.Errorf("the log has %+v", l)
			}
		}
		g.ipmasq(t, 0, "connections kill", "--yes", "--source", ip.lan1, "--source", ip.neighbor)
		end := all.logs("destroy", inside)
		if end.After != l.After || end.Entry != l.Entry || end.Duration == nil || *end.Duration < 0 || *end.Duration > 60 ||
			end.Sent.Packets < 3 || end.Received.Bytes < 100 || end.Time.Before(l.Time) {
			t.Errorf("at its end the log has %+v, and had %+v", end, l)
		}
		forwards.logs("destroy", in.Local())
		line := regexp.MustCompile(`^\S+Z +destroy +tcp +` + regexp.QuoteMeta(inside.String()) + ` +` + regexp.QuoteMeta(at(ip.outside, 80)) +
			` +-> from ` + regexp.QuoteMeta(outside.String()) + ` +masquerade home +lan +wan +\d+s +\d+ +\d+$`)
		table.sees(line.String(), line.MatchString)
		for _, text := range forwards.lines {
			if strings.Contains(text, "masquerade") {
				t.Errorf("not asked for: %s", text)
			}
		}
	})
	all.ends(syscall.SIGTERM)
	forwards.ends(syscall.SIGINT)
	table.ends(syscall.SIGTERM)
	g.delete(t)
}

// What is applied while the watch goes on counts for what begins then; what is
// open keeps the entry that it began with.
func TestWatchPolicyChanges(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	before := strings.Replace(watchedPolicy, "  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, \"fd00:2::/64\"]}\n", "", 1)
	before = strings.Replace(before, ", outside_ports: 40000-40099", "", 1)
	topo.GW.Sysctl("net.netfilter.nf_conntrack_events", "1") // or the end of what is open comes with the next comparison
	g := applied(t, topo, before)
	old := opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
	w := g.watches(t, "-o", "json", "--existing")
	if l := w.logs("open", old.Local()); l.Entry != "masquerade home" {
		t.Errorf("the log has %+v", l)
	}
	g.apply(t, strings.Replace(before, "name: home", "name: flat", 1))
	deadline := time.Now().Add(2 * lab.Patience)
	for {
		conn := opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
		if conn == nil {
			return
		}
		l := w.logs("new", conn.Local())
		if l.Entry == "masquerade flat" {
			break
		}
		conn.Abort()
		if l.Entry != "masquerade home" || time.Now().After(deadline) {
			t.Fatalf("the log has %+v", l)
		}
		time.Sleep(50 * time.Millisecond) // nothing says when the watch knows the policy
	}
	g.ipmasq(t, 0, "connections kill", "--yes", "--source", lab.LAN1)
	if l := w.logs("destroy", old.Local()); l.Entry != "masquerade home" {
		t.Errorf("the log has %+v", l)
	}
	w.ends(syscall.SIGTERM)
	g.delete(t)
}

// Who reads the log may go: the watch ends then, without a word.
func TestWatchWithoutReader(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	g := applied(t, topo, lanToWAN)
	w := g.watches(t, "-o", "json")
	if err := w.stdout.Close(); err != nil {
		t.Fatal(err)
	}
	opens(t, g.LAN1, at(lab.Outside, 80), lab.GatewayUplink)
	<-w.done
	ended := make(chan struct{})
	go func() { _ = w.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(2 * lab.Patience):
		t.Fatal("it goes on")
	}
	if said := w.said(); said != "" {
		t.Errorf("it says %s", said)
	}
	g.delete(t)
}
