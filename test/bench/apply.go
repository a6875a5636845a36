package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// policy writes a policy with n port forwards, as a map file or as plain
// entries, and gives its path. Half of 100,000 are TCP and half UDP.
func (b *bench) policy(n int, plain bool) string {
	var yaml, lines bytes.Buffer
	yaml.WriteString("version: 1\nzones:\n  lan: {interfaces: eth1, networks: 192.168.1.0/24}\n  wan: {interfaces: eth0}\n" +
		"masquerade:\n  - {from: lan, to: wan}\nport_forward:\n")
	name := fmt.Sprintf("map%d", n)
	if plain {
		name = fmt.Sprintf("plain%d", n)
	} else {
		fmt.Fprintf(&yaml, "  - {name: vms, from: wan, map: {file: %s.txt}}\n", name)
	}
	for i := range n {
		proto, port := forward(i, n)
		to := fmt.Sprintf("192.168.1.%d:%d", 2+i%250, 1000+i%60000)
		if plain {
			fmt.Fprintf(&yaml, "  - {from: wan, protocol: %s, ports: %d, to: '%s'}\n", proto, port, to)
		} else {
			fmt.Fprintf(&lines, "%s/%d %s\n", proto, port, to)
		}
	}
	b.write(name+".txt", lines.Bytes())
	return b.write(name+".yaml", yaml.Bytes())
}

// forward gives the protocol and the port of forward i of n: UDP first and
// last.
func forward(i, n int) (proto string, port int) {
	switch {
	case i < n/4:
		return "udp", 1 + i
	case i < n-n/4:
		return "tcp", 1 + i - n/4
	}
	return "udp", 1 + i - (n - n/4) + n/4
}

func (b *bench) write(name string, text []byte) string {
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	return path
}

// run runs a command on a host and gives its wall time and peak memory in MB. The
// kernel begins to count memory with this process's own, so that it stays small.
func (b *bench) run(h *lab.Host, args ...string) (wall, memory float64, stderr string) {
	c := h.Command(context.Background(), args[0], args[1:]...)
	var errs bytes.Buffer
	c.Stderr = &errs // and the output goes to /dev/null
	start := time.Now()
	err := c.Run()
	wall = millis(time.Since(start))
	b.cpu = millis(c.ProcessState.UserTime() + c.ProcessState.SystemTime())
	if err != nil && c.ProcessState.ExitCode() != 2 {
		b.tb.Fatalf("bench: %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return wall, float64(c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024, errs.String()
}

// ipmasqOn runs ipmasq on a host with a state folder of its own.
func (b *bench) ipmasqOn(h *lab.Host, command string, args ...string) (wall, memory float64, stderr string) {
	return b.run(h, append([]string{b.ipmasq, command, "--state-dir", b.stateDir(h)}, args...)...)
}

func (b *bench) stateDir(h *lab.Host) string { return filepath.Join(b.dir, "state-"+h.Name()) }

// clear takes everything off a host.
func (b *bench) clear(h *lab.Host) {
	b.run(h, "nft", "flush", "ruleset")
	os.RemoveAll(b.stateDir(h))
}

// rendered writes what ipmasq renders for a policy.
func (b *bench) rendered(policy string) string {
	path := strings.TrimSuffix(policy, ".yaml") + ".nft"
	c := b.host().Command(context.Background(), b.ipmasq, "render", "--offline", policy)
	out, err := c.Output()
	if err != nil {
		b.tb.Fatalf("bench: render: %v", err)
	}
	if err := os.WriteFile(path, out, 0o644); err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	return path
}

// apply measures a cold apply of many port forwards.
func (b *bench) apply() {
	t := newTable("cold apply of N port forwards, beside nft -f of our own rendered text",
		"N", "nft -f", "ipmasq, map file", "of nft -f", "memory (nft)", "ipmasq, plain YAML", "of nft -f", "memory")
	var steps string
	for _, n := range []int{10, 1000, 10000, 100000} {
		h := b.host()
		mapFile, plain := b.policy(n, false), b.policy(n, true)
		text := b.rendered(mapFile)
		var nft, viaMap, viaYAML sample
		var nftMemory, mapMemory, yamlMemory float64
		for range b.rounds {
			b.clear(h)
			wall, memory, _ := b.run(h, "nft", "-f", text)
			nft, nftMemory = append(nft, wall), memory
			b.clear(h)
			wall, memory, errs := b.ipmasqOn(h, "apply", "--timings", mapFile)
			viaMap, mapMemory = append(viaMap, wall), max(mapMemory, memory)
			if n == 100000 {
				steps = errs
			}
			b.clear(h)
			wall, memory, _ = b.ipmasqOn(h, "apply", plain)
			viaYAML, yamlMemory = append(viaYAML, wall), max(yamlMemory, memory)
		}
		b.clear(h)
		limit := 1.0
		if n >= 1000 {
			limit = 0.5
		}
		memory := fmt.Sprintf("%.0f MB (%.0f MB)", mapMemory, nftMemory)
		if n == 100000 {
			memory += ", target 60 MB"
		}
		t.row(n, ms(nft.median()), ms(viaMap.median()), target(viaMap.over(nft), limit), memory,
			ms(viaYAML.median()), target(viaYAML.over(nft), 1.5), fmt.Sprintf("%.0f MB", yamlMemory))
	}
	t.Flush()
	fmt.Printf("\nwhere the time goes, 100000 from a map file (last round):\n%s", steps)
}
