package examples_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// The base chains in docs/architecture.md are those that the examples need, all
// of them together.
func TestTableInTheKernelIsDocumented(t *testing.T) {
	types := map[ruleset.ChainType]string{ruleset.TypeFilter: "filter", ruleset.TypeNAT: "nat", ruleset.TypeRoute: "route"}
	points := map[ruleset.HookPoint]string{
		ruleset.Prerouting: "prerouting", ruleset.Input: "input", ruleset.Forward: "forward", ruleset.Output: "output", ruleset.Postrouting: "postrouting",
	}
	page := section(t, "../../docs/architecture.md", "## The table in the kernel")
	rows := 0
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	seen := map[string]bool{}
	for _, path := range examples(t) {
		p, err := policy.Load([]string{path}, policy.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := compile.Compile(p, compile.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Ruleset.Chains {
			if c.Hook == nil {
				continue
			}
			row := fmt.Sprintf("| `%s` | %s | %s | %d |", c.Name, types[c.Hook.Type], points[c.Hook.Point], c.Hook.Priority)
			seen[row] = true
			if !strings.Contains(page, row) {
				t.Errorf("docs/architecture.md lacks the row %s", row)
			}
		}
	}
	if rows != len(seen) {
		t.Errorf("docs/architecture.md has %d base chains, and the examples %d", rows, len(seen))
	}
}

// Links between documents lead somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", filepath.Base(path), err)
			}
		}
	}
}
