package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon measures what the daemon takes from a change of a file to rules that
// are in force, and to rules that are read back.
func (b *bench) daemon() {
	t := newTable("ipmasq run: one more port forward, in a map file", "forwards", "file read", "planned", "committed", "all, read back and remembered", "memory then")
	for _, n := range []int{10, 1000, many} {
		read, planned, committed, all, memory := b.daemonAt(n)
		t.row(strconv.Itoa(n), ms(read.median()), ms(planned.median()), ms(committed.median()), ms(all.median()), fmt.Sprintf("%d MB", memory>>10))
	}
	t.Flush()
	fmt.Println("each from the end of the 100 ms in which files have to be quiet; the policy is read whole, since a change anywhere may change what a line means")
}

// daemonAt gives, of each round, the time after which each step was done, and
// the memory that the daemon holds in the end, in kB.
func (b *bench) daemonAt(n int) (read, planned, committed, all sample, memory int) {
	h, path := b.host(), b.policy(n, false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := h.Command(ctx, b.ipmasq, "run", "--timings", "--state-dir", b.dir+"/"+h.Name(), path)
	stderr, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	lines := bufio.NewScanner(stderr)
	// Steps are told at their ends, with what they took, in ms.
	round := func() (steps map[string]float64, took float64) {
		steps = map[string]float64{}
		for lines.Scan() {
			text := lines.Text()
			if _, after, found := strings.Cut(text, "; in "); found && strings.Contains(text, "applied") {
				d, err := time.ParseDuration(after)
				if err != nil {
					b.tb.Fatalf("bench: %v", err)
				}
				return steps, millis(d)
			}
			if fields := strings.Fields(text); len(fields) >= 3 && fields[len(fields)-1] == "ms" {
				took, err := strconv.ParseFloat(fields[len(fields)-2], 64)
				if err == nil {
					steps[strings.Join(fields[:len(fields)-2], " ")] += took
				}
			}
		}
		b.tb.Fatalf("bench: the daemon ended")
		return nil, 0
	}
	round()
	for i := range 2 * b.rounds {
		b.withOne(path, i%2 == 0)
		steps, took := round()
		done := steps["parse"]
		read = append(read, done)
		for _, s := range []string{"facts", "compile", "encode", "read"} {
			done += steps[s]
		}
		planned = append(planned, done)
		for _, s := range []string{"state", "routes", "commit"} {
			done += steps[s]
		}
		committed, all = append(committed, done), append(all, took)
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	_, rss, _ := strings.Cut(string(text), "VmRSS:")
	_, _ = fmt.Sscan(rss, &memory)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	for lines.Scan() {
	}
	_ = c.Wait()
	_ = os.RemoveAll(b.dir + "/" + h.Name())
	return read, planned, committed, all, memory
}
