package examples_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Each key that the parser knows has a row in docs/testing.md, with tests for
// each section that has the key and the place where docs/policy.md says what it
// means; and there are such keys, sections, tests and places.
func TestKeysHaveTests(t *testing.T) {
	const zones = "version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: eth0}}\n"
	const wrong = "{qqqqqqqqqqqqqqq: 1}"
	known := regexp.MustCompile(`the keys here are ([a-z0-9_, ]+)`)
	untested := map[string]bool{} // "key of section"
	for section, text := range map[string]string{
		"zones":           "version: 1\nzones: {lan: " + wrong + "}\n",
		"symmetric":       "version: 1\nzones: {wan: {interfaces: eth0, symmetric: " + wrong + "}}\n",
		"sets":            "version: 1\nsets: {s: " + wrong + "}\n",
		"masquerade":      zones + "masquerade: " + wrong + "\n",
		"snat":            zones + "snat: " + wrong + "\n",
		"one_to_one":      zones + "one_to_one: " + wrong + "\n",
		"port_forward":    zones + "port_forward: " + wrong + "\n",
		"map":             zones + "port_forward: {map: {file: x, qqqqqqqqqqqqqqq: 1}}\n",
		"hairpin":         zones + "port_forward: {hairpin: " + wrong + "}\n",
		"redirect":        zones + "redirect: " + wrong + "\n",
		"forward":         zones + "forward: " + wrong + "\n",
		"forward.rules":   zones + "forward: {rules: " + wrong + "}\n",
		"input":           zones + "input: " + wrong + "\n",
		"input.rules":     zones + "input: {rules: " + wrong + "}\n",
		"max_connections": zones + "masquerade: {max_connections: " + wrong + "}\n",
		"timeouts":        zones + "masquerade: {timeouts: " + wrong + "}\n",
		"log":             zones + "masquerade: {log: " + wrong + "}\n",
		"rate":            zones + "forward: {rules: {rate: " + wrong + "}}\n",
		"gateway":         zones + "gateway: " + wrong + "\n",
		"forwarding":      zones + "gateway: {forwarding: " + wrong + "}\n",
		"conntrack":       zones + "gateway: {conntrack: " + wrong + "}\n",
		"offload":         zones + "gateway: {offload: " + wrong + "}\n",
	} {
		_, err := policy.Parse("policy.yaml", []byte(text))
		if err == nil {
			t.Fatalf("%s is valid", text)
		}
		m := known.FindStringSubmatch(err.Error())
		if m == nil {
			t.Fatalf("%s: the parser does not list its keys: %v", text, err)
		}
		for key := range strings.SplitSeq(m[1], ", ") {
			untested[key+" of "+section] = true
		}
	}

	declared := declaredTests(t)
	named := regexp.MustCompile("`(Test\\w+)`")
	linked := regexp.MustCompile(`^\[([a-z_.]+)\]\(policy\.md#([a-z_-]+)\)$`)
	for line := range strings.Lines(section(t, "../../docs/testing.md", "## Keys and their tests")) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 3 || !slices.Contains([]string{"both", "IPv4", "IPv6", "none"}, cells[2]) {
			t.Errorf("not `key | tests | families`: %s", line)
			continue
		}
		key := strings.Trim(cells[0], "`")
		for part := range strings.SplitSeq(cells[1], "; ") {
			sections, tests, _ := strings.Cut(part, ": ")
			found := named.FindAllStringSubmatch(tests, -1)
			if len(found) == 0 {
				t.Errorf("`%s`: no test in %q", key, part)
			}
			for _, m := range found {
				if !declared[m[1]] {
					t.Errorf("`%s`: there is no test %s", key, m[1])
				}
			}
			for label := range strings.SplitSeq(sections, ", ") {
				link := linked.FindStringSubmatch(label)
				if link == nil {
					t.Errorf("`%s`: %q does not link to docs/policy.md", key, label)
					continue
				}
				section := link[1]
				if !described(t, link[2], key) {
					t.Errorf("`%s` of %s: no table below #%s of docs/policy.md has it", key, section, link[2])
				}
				if !untested[key+" of "+section] {
					t.Errorf("`%s`: %s has no such key, or two rows of it", key, section)
				}
				delete(untested, key+" of "+section)
			}
		}
	}
	for key := range untested {
		t.Errorf("docs/testing.md has no row with tests for %s", key)
	}
}

// described says whether a table below a heading of docs/policy.md has a row of
// the key, or of all that another section has.
func described(t *testing.T, anchor, key string) bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name := strings.TrimSpace(strings.TrimLeft(line, "#"))
		if !strings.HasPrefix(line, "#") || name != anchor {
			continue
		}
		for row := range strings.Lines(section(t, "../../docs/policy.md", strings.TrimSpace(line))) {
			cell, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			if strings.HasPrefix(row, "| ") && strings.Contains(cell, "`"+key+"`") {
				return true
			}
		}
	}
	return false
}
