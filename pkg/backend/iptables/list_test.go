package iptables_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// forwards translates a map of forwards.
func forwards(t *testing.T, lines []string) *plan.Snapshot {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"map.txt": strings.Join(lines, "\n") + "\n", "policy.yaml": `version: 1
zones:
  lan: {interfaces: eth1, networks: 192.168.0.0/16}
  wan: {interfaces: eth0}
port_forward:
  - {name: vms, from: wan, map: {file: map.txt}}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.Load([]string{filepath.Join(dir, "policy.yaml")}, policy.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := iptables.Want(r.Ruleset)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// walk sends a TCP packet through a chain as far as ports go: it gives the
// target, or "", and how many rules the packet meets.
func walk(t *testing.T, s *plan.Snapshot, chain string, port, first int) (target string, met int) {
	t.Helper()
	i := slices.IndexFunc(s.Chains, func(c plan.Chain) bool { return c.Name == chain })
	if i < 0 {
		t.Fatalf("there is no chain %s", chain)
	}
	table := chain[:strings.LastIndexByte(chain, ' ')+1]
	for _, r := range s.Chains[i].Rules {
		met++
		matches := true
		words := strings.Fields(string(r.Body))
		for k := 0; k+1 < len(words); k++ {
			value := words[k+1]
			switch words[k] {
			case "-p":
				matches = matches && value == "tcp"
			case "--dport", "--ctorigdstport":
				lo, hi, isRange := strings.Cut(value, ":")
				if !isRange {
					hi = lo
				}
				from, err := strconv.Atoi(lo)
				to, err2 := strconv.Atoi(hi)
				if err != nil || err2 != nil {
					t.Fatalf("%s: %q", chain, r.Body)
				}
				p := port
				if words[k] == "--ctorigdstport" {
					p = first
				}
				matches = matches && from <= p && p <= to
			}
		}
		if !matches {
			continue
		}
		last := words[len(words)-1]
		if !strings.HasPrefix(last, "IPMASQ-") {
			return last, met
		}
		to, more := walk(t, s, table+last, port, first)
		met += more
		if to != "" || words[len(words)-2] == "-g" {
			return to, met
		}
	}
	return "", met
}

// A long list leads each port to its target and others back, and a packet meets
// few of its rules.
func TestLists(t *testing.T) {
	t.Parallel()
	// Dense and sparse ports, ranges within a block and across some, and few.
	var lines []string
	want := map[int]string{}
	add := func(port int) {
		lines = append(lines, fmt.Sprintf("tcp/%d 192.168.%d.%d:%d", port, port>>8, port&0xff, 1+port*7%60000))
		want[port] = fmt.Sprintf("192.168.%d.%d:%d", port>>8, port&0xff, 1+port*7%60000)
	}
	for port := 1; port < 700; port++ {
		add(port)
	}
	for port := 10000; port < 65536; port += 89 {
		add(port)
	}
	for _, r := range [][2]int{{2000, 2100}, {4000, 9000}, {1020, 1023}} {
		lines = append(lines, fmt.Sprintf("tcp/%d-%d 192.168.1.1:7", r[0], r[1]))
		for port := r[0]; port <= r[1]; port++ {
			want[port] = "192.168.1.1:7"
		}
	}
	s := forwards(t, lines)
	for port := range 65536 {
		got, met := walk(t, s, "ipv4 nat IPMASQ-dnat_from_wan", port, port)
		if got != want[port] {
			t.Fatalf("port %d leads to %q, want %q", port, got, want[port])
		}
		if met > 200 {
			t.Fatalf("a packet to port %d meets %d rules", port, met)
		}
		if port == 0 || want[port] == "" {
			continue
		}
		to, _ := strconv.Atoi(want[port][strings.IndexByte(want[port], ':')+1:])
		if got, met := walk(t, s, "ipv4 filter IPMASQ-forward_opened", to, port); got != "ACCEPT" || met > 200 {
			t.Fatalf("port %d, at its target %d, is %q after %d rules", port, to, got, met)
		}
	}
	// What all who look there have in common stands once.
	times := 0
	for _, c := range s.Chains {
		for _, r := range c.Rules {
			if strings.HasSuffix(string(r.Body), " "+want[5]) {
				times++
			}
		}
	}
	if times != 1 {
		t.Errorf("an element stands %d times", times)
	}
}

// One forward more or less changes the few chains that it is in.
func TestListsStay(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("tcp/%d 192.168.1.%d:%d", 1000+i, 1+i%200, 20000+7*i))
	}
	before := forwards(t, lines)
	for _, i := range []int{0, 500, 999} {
		changes := plan.Diff(before, forwards(t, slices.Delete(slices.Clone(lines), i, i+1)))
		if n := len(changes.Chains); n == 0 || n > 5 {
			t.Errorf("without line %d %d chains differ", i, n)
		}
	}
}
