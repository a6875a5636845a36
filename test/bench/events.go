package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/flood"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// burstFlows begin and end in a burst: 400,000 events.
const burstFlows = 200_000

// begin puts n connections into a host's table, the first of them from address
// base of 10.0.0.0/8.
func (b *bench) begin(h *lab.Host, base, n int) {
	err := h.Do(func() error {
		return flood.Fill(n, func(i int, e *flood.Entry) {
			i += base
			e.Protocol = unix.IPPROTO_UDP
			e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 4000)
			e.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 1}), 443)
			e.SNAT = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 15), 7}), 0)
		})
	})
	if err != nil {
		b.tb.Fatalf("bench: begin %d connections: %v", n, err)
	}
}

// endAll empties a host's table, as fast as the kernel can.
func (b *bench) endAll(h *lab.Host) {
	err := h.Do(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		r := &nfnetlink.Requests{}
		r.Message(unix.NFNL_SUBSYS_CTNETLINK<<8|2, 0, unix.AF_UNSPEC) // IPCTNL_MSG_CT_DELETE
		var refused error
		if err := c.Do(r, func(e *nfnetlink.Error) { refused = e }); err != nil {
			return err
		}
		return refused
	})
	if err != nil {
		b.tb.Fatalf("bench: empty the table: %v", err)
	}
}

// logReader counts what a watch prints.
type logReader struct {
	cmd  *lab.Cmd
	mu   sync.Mutex
	came *sync.Cond
	// Lines by their event, and those of them that a comparison found.
	count map[string]int
	found int
	lost  uint64
	ended bool
}

func (b *bench) watcher(h *lab.Host) *logReader {
	r := &logReader{cmd: h.Command(context.Background(), b.ipmasq, "connections", "watch", "-o", "json", "--state-dir", b.dir+"/"+h.Name()), count: map[string]int{}}
	r.came = sync.NewCond(&r.mu)
	stdout, err := r.cmd.StdoutPipe()
	if err == nil {
		r.cmd.Stderr = os.Stderr
		err = r.cmd.Start()
	}
	if err != nil {
		b.tb.Fatalf("bench: watch: %v", err)
	}
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			r.read(s.Bytes())
		}
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.came.Broadcast()
	}()
	r.until(b, "begins", func() bool { return r.count["begin"] > 0 })
	return r
}

func (r *logReader) read(line []byte) {
	rest, _ := bytes.CutPrefix(line, []byte(`{"format_version":1,"event":"`))
	event, rest, _ := bytes.Cut(rest, []byte(`"`))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[string(event)]++
	if bytes.Contains(rest, []byte(`"resync":true`)) {
		r.found++
	}
	if string(event) == "lost" {
		var l struct{ Messages uint64 }
		_ = json.Unmarshal(line, &l)
		r.lost += l.Messages
	}
	r.came.Broadcast()
}

func (r *logReader) until(b *bench, what string, done func() bool) {
	late := time.AfterFunc(2*time.Minute, func() { r.mu.Lock(); r.ended = true; r.mu.Unlock(); r.came.Broadcast() })
	defer late.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !done() {
		if r.ended {
			b.tb.Fatalf("bench: the watch ended, or took too long, before it %s: %v", what, r.count)
		}
		r.came.Wait()
	}
}

// told says whether n connections that began and ended have been told of, or
// the loss.
func (r *logReader) told(n int) bool {
	return r.count["new"] >= n && r.count["destroy"] >= n || r.count["lost"] > 0 && r.count["resync"] >= r.count["lost"]
}

// memory is what a process has in memory, and has had at most, in kB.
func memory(pid int) (now, most int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &now)
		_, _ = fmt.Sscanf(line, "VmHWM: %d", &most)
	}
	return now, most
}

// events measures a burst: as many connections as the table holds begin, and
// all end at once. Nothing of it may go unsaid.
func (b *bench) events() {
	var making, through sample
	var lost, found uint64
	most := 0
	for range b.rounds {
		h := b.host()
		r := b.watcher(h)
		start := time.Now()
		b.begin(h, 0, burstFlows)
		b.endAll(h)
		making = append(making, millis(time.Since(start)))
		r.until(b, "told of all", func() bool { return r.told(burstFlows) })
		through = append(through, millis(time.Since(start)))
		_, m := memory(r.cmd.Process.Pid)
		most = max(most, m)
		r.mu.Lock()
		lost, found = lost+r.lost, found+uint64(r.found)
		r.mu.Unlock()
		_ = r.cmd.Process.Signal(unix.SIGTERM)
		_ = r.cmd.Wait()
	}
	t := newTable(fmt.Sprintf("a burst of %d events: as many connections begin, then all end at once", 2*burstFlows),
		"", "made in", "all told in", "lost, and said so", "told after a comparison", "memory")
	t.row("ipmasq connections watch -o json", ms(making.median()), ms(through.median()), lost, found, fmt.Sprintf("%d kB", most))
	if _, err := exec.LookPath("conntrack"); err == nil {
		got := b.peerEvents()
		t.row("conntrack -E", "", "", fmt.Sprintf("%d of %d", 2*burstFlows-got, 2*burstFlows), "", "")
	}
	t.Flush()
}

// peerEvents is how many of a burst's events conntrack(8) prints.
func (b *bench) peerEvents() int {
	h := b.host()
	c := h.Command(context.Background(), "conntrack", "-E", "-e", "NEW,DESTROY")
	file, err := os.Create(b.dir + "/peer-events")
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	defer file.Close()
	c.Stdout = file
	if err := c.Start(); err != nil {
		b.tb.Fatalf("bench: conntrack -E: %v", err)
	}
	for begun := time.Now(); time.Since(begun) < 10*time.Second; { // one that is printed says that it listens
		b.begin(h, 1<<20, 1)
		b.endAll(h)
		if info, err := file.Stat(); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.begin(h, 0, burstFlows)
	b.endAll(h)
	for size := int64(-1); ; { // until it prints nothing more
		info, err := file.Stat()
		if err != nil || info.Size() == size {
			break
		}
		size = info.Size()
		time.Sleep(time.Second)
	}
	_ = c.Process.Signal(unix.SIGINT)
	_ = c.Wait()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte("src=10.16.")) { // the one above
			n++
		}
	}
	return n
}

// watch has connections begin and end for a while, all the time, and sees that
// the memory of a watch does not grow.
func (b *bench) watch() {
	h := b.host()
	r := b.watcher(h)
	t := newTable(fmt.Sprintf("a watch of %v, with 20,000 connections open that are replaced all the time", b.watchFor),
		"after", "events", "lost, and said so", "memory now", "at most")
	begun, base := time.Now(), 0
	half := 0
	for shown := time.Duration(0); ; {
		b.begin(h, base, 20_000)
		b.endAll(h)
		base = (base + 20_000) % (1 << 22)
		since := time.Since(begun)
		now, most := memory(r.cmd.Process.Pid)
		if half == 0 && since > b.watchFor/2 {
			half = most
		}
		if since >= shown {
			shown += b.watchFor / 10
			r.mu.Lock()
			t.row(since.Round(time.Second), r.count["new"]+r.count["destroy"], r.lost, fmt.Sprintf("%d kB", now), fmt.Sprintf("%d kB", most))
			r.mu.Unlock()
		}
		if since >= b.watchFor {
			t.Flush()
			fmt.Printf("memory at most, the whole time beside its first half: %s\n", target(float64(most)/float64(half), 1.05))
			break
		}
	}
	_ = r.cmd.Process.Signal(unix.SIGTERM)
	_ = r.cmd.Wait()
}
