package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/test/variant"
)

// onIPTables is a policy with what is made beside the rules there: one set whose
// elements come and go, one that is made anew, and timeouts.
func onIPTables(text string) string {
	n := 1
	if text == crashB {
		n = 2
	}
	addresses := func(count int, format string) string {
		list := make([]string, count)
		for i := range list {
			list[i] = fmt.Sprintf(format, n, 2*i>>8, 2*i&0xff)
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	return strings.Replace(text, "version: 1\n", fmt.Sprintf(`version: 1
gateway: {backend: iptables, conntrack: {timeouts: {udp: {replied: %dm}}}}
sets:
  few: %s
  many: %s
forward:
  rules:
    - {name: few, from: wan, sources: "@few", action: drop}
    - {name: many, from: wan, sources: "@many", action: drop}
`, n, addresses(40, "10.%d.%d.%d"), addresses(2500, "11.%d.%d.%d")), 1)
}

// beside is what is no table: sets and timeout objects.
const beside = "sets and timeouts"

// tables is what iptables-save prints of each table that has anything, without
// counters, and what is beside them.
func (v *victim) tables() map[string]string {
	v.t.Helper()
	out := variant.Tables(v.t, v.host, v.variant)
	have, err := v.backend.Have(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	if rest := (&plan.Snapshot{Sets: have.Sets, Objects: have.Objects}); !rest.Empty() {
		out[beside] = rest.Digest()
	}
	return out
}

// written is a look at tables.
func written(tables map[string]string) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		fmt.Fprintf(&out, "%s\n%s", name, tables[name])
	}
	return out.String()
}

// judgeTables sees to it that each table is the old or the new, whole, or a nat
// that translates for both; that those that keep packets in, the leak guard's among
// them, are there before translation and go after it; and that nothing is forwarded
// without them.
func (v *victim) judgeTables(from, to, when string) string {
	v.t.Helper()
	now, before, after := v.tables(), v.parts[from], v.parts[to]
	if written(now) == written(before) {
		return "before"
	} else if written(now) == written(after) {
		return "done"
	}
	forwards := v.host.GetSysctl("net.ipv4.ip_forward") != "0" || v.host.GetSysctl("net.ipv6.conf.all.forwarding") != "0"
	for _, family := range []string{"ip", "ip6"} {
		nat := family + " nat"
		for _, table := range []string{"raw", "mangle", "filter"} {
			table = family + " " + table
			is := now[table]
			if is != before[table] && is != after[table] {
				v.t.Errorf("%s: the table %s is neither the old nor the new:\n%s", when, table, is)
			}
			if forwards && is == "" && before[table] != "" && after[table] != "" {
				v.t.Errorf("%s: the host forwards without the table %s", when, table)
			}
			early := strings.HasSuffix(table, " filter") // what translates sources may come before it
			if after[nat] != "" && now[nat] != before[nat] && is != after[table] && !early {
				v.t.Errorf("%s: %s is new, and %s is not", when, nat, table)
			}
			if after[nat] == "" && is != before[table] && now[nat] != "" {
				v.t.Errorf("%s: %s is gone, and %s is not", when, table, nat)
			}
		}
		filter := family + " filter"
		if err := judgeNAT(now[nat], before[nat], after[nat], now[filter] == after[filter]); err != nil {
			v.t.Errorf("%s: %s: %v:\n%s", when, nat, err, now[nat])
		}
	}
	if forwards && (from == "" || to == "") {
		v.t.Errorf("%s: the host forwards with half of the rules", when)
	}
	return "between"
}

// judgeNAT sees to it that what filter lets pass is translated, that what leads to
// targets comes behind filter, and that no line is there that neither the old nor
// the new rules have.
func judgeNAT(now, before, after string, filtered bool) error {
	sourcesNow, rest := splitNAT(now)
	sourcesBefore, restBefore := splitNAT(before)
	sourcesAfter, restAfter := splitNAT(after)
	switch {
	case rest != restBefore && rest != restAfter:
		return errors.New("what leads to targets is neither the old nor the new")
	case after != "" && rest != restBefore && !filtered:
		return errors.New("what leads to targets is new, and filter is not")
	}
	known := map[string]bool{}
	for _, line := range slices.Concat(sourcesBefore, sourcesAfter) {
		known[line] = true
		known[strings.ReplaceAll(line, " -g ", " -j ")] = true
	}
	for _, line := range sourcesNow {
		if !known[line] {
			return fmt.Errorf("neither the old nor the new rules have %s", line)
		}
	}
	if before == "" || after == "" {
		return nil
	}
	needed := sourcesBefore
	if filtered {
		needed = sourcesAfter
	}
	for _, line := range needed {
		if translates(line) && !slices.Contains(sourcesNow, line) {
			return fmt.Errorf("what filter lets pass needs %s", line)
		}
	}
	return nil
}

// splitNAT is the lines of POSTROUTING and the chains that it leads to, and what
// else the table has.
func splitNAT(table string) (sources []string, rest string) {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	behind := map[string]bool{"POSTROUTING": true}
	for grown := true; grown; {
		grown = false
		for _, line := range lines {
			word := strings.Fields(line)
			if len(word) < 4 || !behind[word[1]] {
				continue
			}
			if to := word[len(word)-1]; strings.HasPrefix(to, "IPMASQ-") && !behind[to] {
				behind[to], grown = true, true
			}
		}
	}
	for _, line := range lines {
		word := strings.Fields(line)
		switch {
		case len(word) == 0:
		case word[0] == "-A" && behind[word[1]], behind[strings.TrimPrefix(word[0], ":")]:
			sources = append(sources, line)
		default:
			rest += line + "\n"
		}
	}
	return sources, rest
}

// translates says whether a rule gives a packet another source.
func translates(line string) bool {
	return strings.Contains(line, " -j MASQUERADE") || strings.Contains(line, " -j SNAT ") || strings.Contains(line, " -j NETMAP ")
}

// Where iptables-restore does not end at once with the process that has started
// it, the next command waits: nothing is committed behind its back. And where it
// never commits anything, what was made for it goes all the same.
func TestOrphanIsWaitedFor(t *testing.T) {
	for _, name := range variant.All() {
		t.Run(name, func(t *testing.T) {
			t.Setenv(variant.Backend, name)
			v := newVictim(t)
			for _, verdict := range []string{"commit", "die"} {
				v.orphans(verdict)
			}
		})
	}
}

// orphans kills an apply whose first iptables-restore has a child of its own,
// which commits or dies when it is told to.
func (v *victim) orphans(verdict string) {
	v.t.Helper()
	bin := v.t.TempDir()
	real, err := exec.LookPath(v.variant + "-restore")
	if err != nil {
		v.t.Fatal(err)
	}
	slow := fmt.Sprintf(`#!/bin/sh
case $* in *--test*) exec %[1]s "$@" ;; esac
exec 4<&0
(
	echo begun >%[2]s/begun
	until [ -s %[2]s/verdict ]; do sleep 0.01; done
	[ $(cat %[2]s/verdict) = die ] || %[1]s "$@" <&4
	echo ended >%[2]s/ended
) &
wait
`, real, bin)
	if err := os.WriteFile(filepath.Join(bin, v.variant+"-restore"), []byte(slow), 0o700); err != nil {
		v.t.Fatal(err)
	}
	there := func(name string) func() bool {
		return func() bool { text, err := os.ReadFile(filepath.Join(bin, name)); return err == nil && len(text) > 0 }
	}
	v.start("")
	cmd := exec.Command("ipmasq", append([]string{"apply", v.files[crashA]}, v.where()...)...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	begins := until(there("begun"))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if now := v.tables(); !begins || len(now) != 1 || now[beside] == "" {
		v.t.Errorf("%s: it is to begin with sets and timeouts, and not with\n%s", verdict, written(now))
	}

	next := exec.Command("ipmasq", append([]string{"delete"}, v.where()...)...)
	var said screen
	next.Stderr = &said
	if err := next.Start(); err != nil {
		v.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- next.Wait() }()
	waits := func() bool { return strings.Contains(said.String(), "waiting for another ipmasq to finish") }
	if !until(func() bool { return waits() || len(done) > 0 }) || !waits() {
		v.t.Errorf("%s: the next command does not wait", verdict)
	}
	if err := os.WriteFile(filepath.Join(bin, "verdict"), []byte(verdict), 0o600); err != nil {
		v.t.Fatal(err)
	}
	if !until(there("ended")) {
		v.t.Errorf("%s: what was begun does not end", verdict)
	}
	if err := <-done; err != nil {
		v.t.Errorf("%s: delete: %v\n%s", verdict, err, &said)
	}
	if left := v.look(); left != v.looks[""] {
		v.t.Errorf("%s: this is left:\n%s", verdict, left)
	}
}
