package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

const many = 100000

// withOne writes the policy of many forwards with one line more or less.
func (b *bench) withOne(path string, more bool) {
	file := strings.TrimSuffix(path, ".yaml") + ".txt"
	text, err := os.ReadFile(file)
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	line := []byte("tcp/60001 192.168.1.2:7\n")
	if text, _ = bytes.CutSuffix(text, line); more {
		text = append(text, line...)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
}

// wanted compiles a policy to what the kernel is to hold.
func (b *bench) wanted(backend *nftables.Backend, path string) *plan.Snapshot {
	p, err := policy.Load([]string{path}, policy.LoadOptions{})
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	want, err := backend.Want(r.Ruleset)
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	return want
}

// element is the nft command for the same change.
func element(verb string) []string {
	e := "{ 60002 }"
	if verb == "add" {
		e = "{ 60002 : 192.168.1.2 . 7 }"
	}
	return []string{"nft", verb, "element", "inet", nftables.Table, "port_forward_vms_tcp_v4", e}
}

// one measures one more port forward.
func (b *bench) one() {
	h, path := b.host(), b.policy(many, false)
	b.ipmasqOn(h, "apply", path)
	var nft, command, parse, inProcess sample
	for range b.rounds {
		wall, _, _ := b.run(h, element("add")...)
		nft = append(nft, wall)
		b.run(h, element("delete")...)
		wall, _, _ = b.run(h, b.ipmasq, "check", path)
		parse = append(parse, wall)
		b.ipmasqOn(h, "apply", path) // the generation is known again
		b.withOne(path, true)
		wall, _, _ = b.ipmasqOn(h, "apply", path)
		command = append(command, wall)
		b.withOne(path, false)
		b.ipmasqOn(h, "apply", path)
	}
	backend := nftables.New(h.Do)
	small, large := b.wanted(backend, path), (*plan.Snapshot)(nil)
	b.withOne(path, true)
	large = b.wanted(backend, path)
	b.withOne(path, false)
	ctx := context.Background()
	for range b.rounds * 4 {
		for _, step := range [][2]*plan.Snapshot{{small, large}, {large, small}} {
			changes := plan.Diff(step[0], step[1])
			from := *step[0]
			var err error
			if from.Generation, err = backend.Probe(ctx); err != nil {
				b.tb.Fatalf("bench: %v", err)
			}
			changes.From = &from
			start := time.Now()
			if err := backend.Commit(ctx, changes, false); err != nil {
				b.tb.Fatalf("bench: %v", err)
			}
			if step[1] == large {
				inProcess = append(inProcess, millis(time.Since(start)))
			}
		}
	}
	t := newTable(fmt.Sprintf("one more port forward into %d", many), "what", "time", "beside")
	t.row("nft add element", ms(nft.median()), "")
	t.row("ipmasq check (reading and compiling the files)", ms(parse.median()), "")
	budget := parse.median() + 2*nft.median()
	t.row("ipmasq apply", ms(command.median()), target(command.median()/budget, 1)+" of reading the files + x2 of nft add element")
	t.row("commit in process, socket included", ms(inProcess.median()), target(inProcess.median(), 1)+" of 1 ms")
	t.Flush()
	b.clear(h)
}

// check measures an apply with nothing to do, and the reading of everything.
func (b *bench) check() {
	h, path := b.host(), b.policy(many, false)
	b.ipmasqOn(h, "apply", path)
	var list, again, status, read sample
	var memory float64
	backend := nftables.New(h.Do)
	want := b.wanted(backend, path)
	for range b.rounds {
		wall, _, _ := b.run(h, "nft", "-j", "list", "table", "inet", nftables.Table)
		list = append(list, wall)
		wall, _, _ = b.ipmasqOn(h, "apply", path)
		again = append(again, wall)
		wall, mem, _ := b.ipmasqOn(h, "status", "-o", "json")
		status, memory = append(status, wall), max(memory, mem)
		start := time.Now()
		have, err := backend.Have(context.Background())
		if err != nil {
			b.tb.Fatalf("bench: %v", err)
		}
		if d := plan.Diff(have, want); !d.Empty() {
			b.tb.Fatalf("bench: the kernel differs: %s", d.Summary())
		}
		read = append(read, millis(time.Since(start)))
	}
	t := newTable(fmt.Sprintf("nothing to do, at %d port forwards", many), "what", "time", "of nft -j list")
	t.row("nft -j list table", ms(list.median()), "")
	t.row("ipmasq apply, nothing changed (reads nothing of the kernel's)", ms(again.median()), fmt.Sprintf("x%.2f", again.over(list)))
	t.row("drift check in process: read everything and compare", ms(read.median()), target(read.over(list), 0.25))
	t.row("ipmasq status, whole process", ms(status.median()), fmt.Sprintf("x%.2f, %.0f MB", status.over(list), memory))
	t.Flush()
	b.clear(h)
}
