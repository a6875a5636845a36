package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ipmasq/ipmasq/test/variant"
)

// added is how many rules are added one by one, with none there and with all.
const added = 20

// iptables measures the iptables backend: a cold apply of many port forwards,
// beside iptables-restore of the very same files, and beside a program that runs
// iptables for each rule. And one set of a million addresses, beside ipset.
func (b *bench) iptables() {
	t := newTable("cold apply of N port forwards by backend: iptables, beside iptables-restore of the same files; CPU of all programs",
		"variant", "N", "lines", "iptables-restore", "ipmasq", "of iptables-restore", "CPU", "of iptables-restore", "iptables -A each (scaled)")
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		path := b.variant(variant)
		for _, n := range []int{1000, 10000} {
			b.iptablesRow(t, variant, path, n)
		}
	}
	t.Flush()
	b.million()
}

func (b *bench) iptablesRow(t *table, variant, path string, n int) {
	h := b.host()
	policy := b.policy(n, false)
	backend := b.write("backend.yaml", []byte("version: 1\ngateway: {backend: iptables}\n"))
	files := map[string]string{}
	for _, format := range []string{"iptables", "ip6tables"} {
		out, err := h.Command(context.Background(), b.ipmasq, "render", "--offline", "--format", format, policy).Output()
		if err != nil {
			b.tb.Fatalf("bench: render: %v", err)
		}
		files[format] = b.write(fmt.Sprintf("%s-%d", format, n), out)
	}
	load := fmt.Sprintf("%[1]s-restore --noflush --wait <%[2]s && ip6%[3]s-restore --noflush --wait <%[4]s",
		variant, files["iptables"], strings.TrimPrefix(variant, "ip"), files["ip6tables"])
	clear := fmt.Sprintf("for p in %s ip6%s; do for t in raw mangle filter nat; do $p -t $t -F && $p -t $t -X; done; done", variant, strings.TrimPrefix(variant, "ip"))
	var restore, apply, restoreCPU, applyCPU sample
	for range b.rounds {
		b.run(h, "sh", "-c", clear)
		wall, _, _ := b.run(h, "sh", "-c", load)
		restore, restoreCPU = append(restore, wall), append(restoreCPU, b.cpu)
		b.run(h, "sh", "-c", clear)
		os.RemoveAll(b.stateDir(h))
		wall, _, _ = b.run(h, "env", "PATH="+path, b.ipmasq, "apply", "--state-dir", b.stateDir(h), policy, backend)
		apply, applyCPU = append(apply, wall), append(applyCPU, b.cpu)
	}
	lines := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			b.tb.Fatalf("bench: %v", err)
		}
		lines += bytes.Count(text, []byte("\n-"))
	}
	one := fmt.Sprintf("for i in $(seq %d); do %s -t nat -A POSTROUTING -p tcp --dport $i -j RETURN; done", added, variant)
	full, _, _ := b.run(h, "sh", "-c", one)
	b.run(h, "sh", "-c", clear)
	empty, _, _ := b.run(h, "sh", "-c", one)
	b.run(h, "sh", "-c", clear)
	t.row(variant, n, lines, ms(restore.median()), ms(apply.median()), target(apply.over(restore), 1.3),
		ms(applyCPU.median()), fmt.Sprintf("x%.2f", applyCPU.over(restoreCPU)), ms((full+empty)/2/added*float64(lines)))
}

// variant gives a PATH on which a variant is called iptables.
func (b *bench) variant(name string) string {
	bin := filepath.Join(b.dir, name)
	variant.Links(b.tb, bin, name)
	return bin + ":" + os.Getenv("PATH")
}

// million measures a set of a million addresses.
func (b *bench) million() {
	t := newTable("a set of 1,000,000 IPv4 addresses by backend: iptables, beside ipset restore of our own rendered text",
		"", "ipset restore", "ipmasq", "of ipset restore", "CPU", "of ipset restore")
	if _, err := exec.LookPath("ipset"); err != nil {
		t.row("ipset is not installed")
		t.Flush()
		return
	}
	var text bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "11.%d.%d.%d\n", i>>15, i>>7&0xff, i<<1&0xff)
	}
	b.write("million.txt", text.Bytes())
	policy := b.write("million.yaml", []byte("version: 1\ngateway: {backend: iptables}\nsets:\n  blocked: {file: million.txt}\n"+
		"zones:\n  lan: {interfaces: eth1, networks: 192.168.1.0/24}\n  wan: {interfaces: eth0}\n"+
		"forward:\n  rules:\n    - {from: lan, destinations: '@blocked', action: drop}\n"))
	h := b.host()
	out, err := h.Command(context.Background(), b.ipmasq, "render", "--offline", "--format", "ipset", policy).Output()
	if err != nil {
		b.tb.Fatalf("bench: render: %v", err)
	}
	file := b.write("million.ipset", out)
	path := b.variant("iptables-legacy")
	var restore, apply, restoreCPU, applyCPU sample
	for range b.rounds {
		wall, _, _ := b.run(h, "ipset", "restore", "-file", file)
		restore, restoreCPU = append(restore, wall), append(restoreCPU, b.cpu)
		b.run(h, "ipset", "destroy")
		os.RemoveAll(b.stateDir(h))
		wall, _, _ = b.run(h, "env", "PATH="+path, b.ipmasq, "apply", "--state-dir", b.stateDir(h), policy)
		apply, applyCPU = append(apply, wall), append(applyCPU, b.cpu)
		b.run(h, "env", "PATH="+path, b.ipmasq, "delete", "--state-dir", b.stateDir(h))
	}
	t.row("cold apply", ms(restore.median()), ms(apply.median()), fmt.Sprintf("x%.2f", apply.over(restore)),
		ms(applyCPU.median()), fmt.Sprintf("x%.2f", applyCPU.over(restoreCPU)))
	t.Flush()
}
