package packet

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The service manager is told when a policy is in force, when another one is
// read, that the daemon lives, and that it ends.
func TestRunNotifies(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	d := g.runsWith(t, []string{"WATCHDOG_USEC=200000"}, g.file(t, "policy.yaml", forwards(8081)))
	d.tells(t, "READY=1", "STATUS=policy ", " is in force")
	g.leadsTo(t, 8081)
	for range 3 {
		d.tells(t, "WATCHDOG=1")
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	at := d.tells(t, "RELOADING=1\nMONOTONIC_USEC=")
	d.tells(t, "READY=1")
	var usec int64
	if _, err := fmt.Sscanf(strings.SplitN(at, "MONOTONIC_USEC=", 2)[1], "%d", &usec); err != nil || usec <= 0 {
		t.Errorf("it reloads at %q", at)
	}
	g.file(t, "policy.yaml", "version: 1\nzones: 7\n")
	d.tells(t, "RELOADING=1")
	d.tells(t, "READY=1", "STATUS=policy ", "the one in the files is not", "policy.yaml:2:8")
	d.stops(t, syscall.SIGTERM)
	d.tells(t, "STOPPING=1")
	g.leadsTo(t, 8081)
	g.delete(t)
}

// A policy with mistakes at the start: what was applied before is put in force,
// and without any the daemon ends. It waits for one that is not there.
func TestRunStartsWithMistakes(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	const bad = "version: 1\nzones: 7\n"
	// The second needs the whole policy to be seen.
	for _, c := range [][2]string{
		{bad, "policy.yaml:2:8: "},
		{forwards(8081) + "  - {name: never, from: wan, protocol: tcp, ports: 80, to: 192.168.1.11}\n", "never"},
	} {
		d := g.runs(t, g.file(t, "policy.yaml", c[0]))
		d.logs(t, c[1])
		d.ends(t, 3)
	}
	if err := os.Remove(g.dir + "/policy.yaml"); err != nil {
		t.Fatal(err)
	}
	d := g.runs(t, g.dir+"/policy.yaml")
	d.tells(t, "READY=1", "STATUS=nothing is in force")
	d.logs(t, "the daemon waits for a policy")
	g.file(t, "policy.yaml", bad)
	d.logs(t, "error: ", "policy.yaml:2:8")
	g.file(t, "policy.yaml", forwards(8081))
	d.logs(t, "ipmasq: applied")
	g.leadsTo(t, 8081)
	d.stops(t, syscall.SIGTERM)

	// As after a boot: nothing is in the kernel, and forwarding is off.
	g.GW.Run(t, "nft", "flush", "ruleset")
	g.GW.Sysctl("net.ipv4.ip_forward", "0")
	g.GW.Sysctl("net.ipv6.conf.all.forwarding", "0")
	g.file(t, "policy.yaml", bad)
	d = g.runs(t, g.dir+"/policy.yaml")
	d.tells(t, "READY=1")
	d.logs(t, "the policy that was applied before", "is in force instead")
	g.leadsTo(t, 8081)
	d.stops(t, syscall.SIGTERM)
	g.delete(t)
}

// In the journal each line has its level.
func TestRunJournal(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	file := g.file(t, "policy.yaml", "version: 1\nzones: 7\n")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	info, err := write.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	ended := make(chan error, 1)
	process, err := os.StartProcess(g.program, []string{"ipmasq", "run", "--netns", g.GW.NetNS(), "--state-dir", g.dir + "/state", file}, &os.ProcAttr{
		Env:   append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)),
		Files: []*os.File{nil, nil, write},
	})
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() { _, err := process.Wait(); ended <- err }()
	buf := make([]byte, 4096)
	_ = read.SetReadDeadline(time.Now().Add(4 * lab.Patience))
	n, err := read.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "<3>"+file+":2:8: ") {
		t.Errorf("the journal gets %q, %v", buf[:n], err)
	}
	_ = process.Signal(syscall.SIGTERM)
	<-ended
}

// Memory and descriptors do not grow with what happens.
func TestRunStaysSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	g := newForwarding(t)
	d := g.runs(t, g.file(t, "policy.yaml", forwards(8081)))
	d.logs(t, "ipmasq: applied")
	change := func(i int) {
		g.replace(t, "policy.yaml", forwards(8081+i%5))
		d.logs(t, "ipmasq: applied", "port_forward web")
		if i%10 == 0 {
			d.wiped(t)
		}
	}
	const rounds = 40
	for i := range rounds {
		change(i + 1)
	}
	memory, files := d.use(t)
	for i := range rounds {
		change(i + 1)
	}
	memoryNow, filesNow := d.use(t)
	t.Logf("after %d changes %d kB and %d descriptors, after twice as many %d kB and %d", rounds, memory, files, memoryNow, filesNow)
	if filesNow > files || memoryNow > memory+memory/4+4000 {
		t.Error("it grows")
	}
	d.stops(t, syscall.SIGTERM)
	g.leadsTo(t, 8081)
	g.delete(t)
}

// use is how much memory the daemon has of its own, in kB, and how many files.
func (d *daemon) use(t *testing.T) (memory, files int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	text, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	_, rss, _ := strings.Cut(string(text), "RssAnon:")
	if _, err := fmt.Sscan(rss, &memory); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	return memory, len(open)
}

// What the daemon did is in its metrics.
func TestRunMetrics(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	d := g.runs(t, "--metrics", "127.0.0.1:0", g.file(t, "policy.yaml", forwards(8081)))
	_, url, _ := strings.Cut(d.logs(t, "metrics are served on "), "served on ")
	d.logs(t, "ipmasq: applied")
	d.wiped(t)
	g.GW.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	d.logs(t, "changed sysctls")
	g.file(t, "policy.yaml", "version: 1\nzones: 7\n")
	d.logs(t, "stays in force")
	client := http.Client{Timeout: lab.Patience}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ipmasq_up 1", `ipmasq_drift_corrections_total{kind="rules"} 1`, `ipmasq_drift_corrections_total{kind="sysctls"} 1`,
		"ipmasq_policy_reload_failures_total 1", "ipmasq_policy_reload_failed 1", "ipmasq_apply_duration_seconds_count 3",
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	d.stops(t, syscall.SIGTERM)
	g.delete(t)
}
