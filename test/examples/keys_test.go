package examples_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// section gives the part of a document below a heading, up to the next one of
// its level or above.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", path, heading)
	}
	level, _, _ := strings.Cut(heading, " ")
	var out strings.Builder
	code := false
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		hashes, _, _ := strings.Cut(line, " ")
		if !code && strings.HasPrefix(line, "#") && strings.Trim(hashes, "#") == "" && len(hashes) <= len(level) {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}

// The parser's answer to a key that nobody knows lists those that it knows:
// each that is built has its row in the reference, and each row is a key.
func TestEveryKeyIsDocumented(t *testing.T) {
	const zones = "version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: eth0}}\n"
	known := regexp.MustCompile(`the keys here are ([a-z0-9_, ]+)`)
	row := regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")
	for heading, wrong := range map[string][]string{
		"## zones":            {"version: 1\nzones: {lan: {qqqqqqqqqqqqqqq: 1}}\n", "version: 1\nzones: {wan: {interfaces: eth0, symmetric: {qqqqqqqqqqqqqqq: 1}}}\n"},
		"## sets":             {"version: 1\nsets: {s: {qqqqqqqqqqqqqqq: 1}}\n"},
		"## masquerade":       {zones + "masquerade: {qqqqqqqqqqqqqqq: 1}\n"},
		"## snat":             {zones + "snat: {qqqqqqqqqqqqqqq: 1}\n"},
		"## port_forward":     {zones + "port_forward: {qqqqqqqqqqqqqqq: 1}\n", zones + "port_forward: {map: {file: x, qqqqqqqqqqqqqqq: 1}}\n", zones + "port_forward: {hairpin: {qqqqqqqqqqqqqqq: 1}}\n"},
		"## forward":          {zones + "forward: {qqqqqqqqqqqqqqq: 1}\n", zones + "forward: {rules: {qqqqqqqqqqqqqqq: 1}}\n"},
		"### max_connections": {zones + "masquerade: {max_connections: {qqqqqqqqqqqqqqq: 1}}\n"},
		"### log":             {zones + "masquerade: {log: {qqqqqqqqqqqqqqq: 1}}\n"},
		"### rate":            {zones + "forward: {rules: {rate: {qqqqqqqqqqqqqqq: 1}}}\n"},
		"## gateway":          {zones + "gateway: {qqqqqqqqqqqqqqq: 1}\n", zones + "gateway: {forwarding: {qqqqqqqqqqqqqqq: 1}}\n", zones + "gateway: {conntrack: {qqqqqqqqqqqqqqq: 1}}\n", zones + "gateway: {offload: {qqqqqqqqqqqqqqq: 1}}\n"},
	} {
		documented := map[string]bool{}
		for _, m := range row.FindAllStringSubmatch(section(t, "../../docs/policy.md", heading), -1) {
			for key := range strings.SplitSeq(m[1], ",") {
				documented[strings.Trim(key, "` ")] = true
			}
		}
		exists := map[string]bool{}
		for _, text := range wrong {
			_, err := policy.Parse("policy.yaml", []byte(text))
			if err == nil {
				t.Fatalf("%s is valid", text)
			}
			m := known.FindStringSubmatch(err.Error())
			if m == nil {
				t.Fatalf("%s: the parser does not list its keys: %v", text, err)
			}
			for key := range strings.SplitSeq(m[1], ", ") {
				exists[key] = true
				if !documented[key] {
					t.Errorf("%s: docs/policy.md has no row for `%s`", heading, key)
				}
			}
		}
		for key := range documented {
			if !exists[key] {
				t.Errorf("%s: docs/policy.md has a row for `%s`, and the parser knows no such key", heading, key)
			}
		}
	}
}
