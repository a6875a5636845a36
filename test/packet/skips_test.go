package packet

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipmasq/ipmasq/test/built"
)

// skip is a reason, and the tests that do not run on iptables for it, or not to
// their end. A test stands for those below it too. What is refused is tried
// each time; a test in here that is skipped nowhere is an error, so that who
// builds what was refused takes its line out.
type skip struct {
	why      string
	variants string // those that it is about, "" are both
	tests    []string
}

// skipping is the skip for a test on a variant; nil where there is none.
func skipping(test, variant string) *skip {
	for _, s := range skips() {
		if strings.Contains(s.variants, variant) || s.variants == "" {
			if slices.ContainsFunc(s.tests, func(named string) bool { return test == named || strings.HasPrefix(test, named+"/") }) {
				return &s
			}
		}
	}
	return nil
}

// ran and skipped are the names of the tests that had a gateway, and of those
// that were skipped.
var ran, skipped sync.Map

// skips skips the test, which has to be in the table.
func (g *gateway) skips(t *testing.T, found string) {
	t.Helper()
	if skipping(t.Name(), g.variant) == nil {
		t.Fatalf("not with %s: %s\nno line of skips() says so", g.variant, found)
	}
	skipped.Store(t.Name(), true)
	t.Skipf("not with %s: %s", g.variant, found)
}

// needless are lines of the table for tests that ran, and were skipped nowhere.
func needless(variant string) []string {
	var out []string
	if named := flag.Lookup("test.run").Value.String(); variant == "" || strings.Contains(named, "/") {
		return nil // parts of tests only
	}
	for _, s := range skips() {
		for _, test := range s.tests {
			root, _, _ := strings.Cut(test, "/")
			if _, began := ran.Load(root); !began || s.variants != "" && !strings.Contains(s.variants, variant) {
				continue
			}
			hit := false
			skipped.Range(func(name, _ any) bool {
				hit = name == test || strings.HasPrefix(name.(string), test+"/")
				return !hit
			})
			if !hit {
				out = append(out, test)
			}
		}
	}
	return out
}

// tests runs the tests, and then looks at the table of skips.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	if variant := os.Getenv("IPMASQ_TEST_BACKEND"); code == 0 && variant != "nftables" {
		for _, test := range needless(variant) {
			fmt.Printf("%s is not skipped on %s: take its line out of skips(), and run with -update\n", test, variant)
			code = 1
		}
	}
	return code
}

var update = flag.Bool("update", false, "write the table of skips in docs/testing.md")

// docs/testing.md has the table, as it is here.
func TestSkipsAreDocumented(t *testing.T) {
	var table strings.Builder
	table.WriteString("| why | tests |\n|---|---|\n")
	seen := map[string]string{}
	for _, s := range skips() {
		for _, test := range s.tests {
			if why, twice := seen[test]; twice && s.variants == "" {
				t.Errorf("%s is skipped for two reasons, %q and %q", test, why, s.why)
			}
			seen[test] = s.why
		}
		why := s.why
		if s.variants != "" {
			why += " (" + s.variants + " alone)"
		}
		if len(s.tests) > 0 {
			fmt.Fprintf(&table, "| %s | `%s` |\n", why, strings.Join(s.tests, "` `"))
		}
	}
	root, err := built.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "docs", "testing.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- skips: written by go test ./test/packet -run TestSkips -update -->\n", "<!-- end of skips -->\n"
	before, rest, _ := strings.Cut(string(text), begin)
	have, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("docs/testing.md has no %q with a %q behind it", begin, end)
	}
	if have == table.String() {
		return
	}
	if !*update {
		t.Fatalf("docs/testing.md has another table of skips; -update writes this one:\n%s", table.String())
	}
	if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
