// Package imports checks who imports what: the table in docs/architecture.md,
// which is the design, is what the code does.
package imports

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// row is a package and all that it imports, tests aside. Third-party modules
// are named without github.com/.
type row struct {
	level      string
	pkg        string
	imports    []string
	thirdParty []string
}

// table is the allow-list. Imports go down: to a row below, at a level that is
// not higher. A permission that is not used is taken away.
var table = []row{
	{"5", "cmd/ipmasq", []string{
		"pkg/adopt", "pkg/backend", "pkg/backend/iptables", "pkg/backend/nftables", "pkg/compile", "pkg/conntrack", "pkg/daemon", "pkg/doctor", "pkg/draft", "pkg/engine", "pkg/flows", "pkg/guard", "pkg/link", "pkg/metrics", "pkg/nftrace", "pkg/plan", "pkg/policy", "pkg/policytest", "pkg/ruleset", "pkg/simulate", "pkg/stage", "pkg/state", "pkg/sysctl", "pkg/top",
	}, []string{"urfave/cli/v2", "go.yaml.in/yaml/v4"}},
	{"4", "pkg/daemon", []string{"pkg/backend", "pkg/engine", "pkg/link", "pkg/policy", "pkg/state"}, []string{"golang.org/x/sys"}},
	{"4", "pkg/doctor", []string{"pkg/backend", "pkg/compile", "pkg/conntrack", "pkg/engine", "pkg/flows", "pkg/foreign", "pkg/link", "pkg/plan", "pkg/policy", "pkg/ruleset", "pkg/simulate", "pkg/state", "pkg/sysctl"}, nil},
	{"4", "pkg/guard", []string{"pkg/engine"}, []string{"golang.org/x/sys"}},
	{"4", "pkg/metrics", []string{"pkg/engine"}, []string{"prometheus/client_golang", "prometheus/common"}},
	{"4", "pkg/policytest", []string{"pkg/compile", "pkg/engine", "pkg/flows", "pkg/link", "pkg/policy", "pkg/ruleset", "pkg/simulate"}, nil},
	{"4", "pkg/stage", []string{"pkg/flows", "pkg/link", "pkg/simulate"}, []string{"golang.org/x/sys"}},
	{"4", "pkg/top", []string{"pkg/conntrack", "pkg/flows"}, []string{"gdamore/tcell/v3"}},
	{"3", "pkg/adopt", []string{"pkg/compile", "pkg/policy"}, nil},
	{"3", "pkg/engine", []string{
		"pkg/backend", "pkg/compile", "pkg/conntrack", "pkg/flows", "pkg/foreign", "pkg/link", "pkg/plan", "pkg/policy", "pkg/ruleset", "pkg/state", "pkg/sysctl",
	}, []string{"golang.org/x/sys"}},
	{"3", "pkg/simulate", []string{"pkg/explain", "pkg/flows", "pkg/link", "pkg/policy", "pkg/ruleset"}, nil},
	{"2", "pkg/compile", []string{"pkg/policy", "pkg/ruleset"}, nil},
	{"2", "pkg/flows", []string{"pkg/conntrack", "pkg/explain", "pkg/link", "pkg/policy", "pkg/ruleset"}, nil},
	{"2", "pkg/backend/nftables", []string{"pkg/backend", "pkg/nfnetlink", "pkg/plan", "pkg/ruleset"}, []string{"golang.org/x/sys"}},
	{"2", "pkg/backend/iptables", []string{"pkg/backend", "pkg/foreign", "pkg/nfnetlink", "pkg/plan", "pkg/ruleset", "pkg/sysctl"}, []string{"coreos/go-iptables", "golang.org/x/sys"}},
	{"2", "pkg/backend/backendtest", []string{"pkg/backend", "pkg/plan", "pkg/ruleset"}, nil},
	{"1", "pkg/backend", []string{"pkg/plan", "pkg/ruleset"}, nil},
	{"1", "pkg/conntrack", []string{"pkg/nfnetlink"}, []string{"golang.org/x/sys"}},
	{"1", "pkg/nftrace", []string{"pkg/nfnetlink"}, []string{"golang.org/x/sys"}},
	{"1", "pkg/foreign", []string{"pkg/nfnetlink"}, []string{"golang.org/x/sys"}},
	{"1", "pkg/plan", []string{"pkg/ruleset"}, nil},
	{"1", "pkg/draft", []string{"pkg/link"}, nil},
	{"1", "pkg/explain", []string{"pkg/ruleset"}, nil},
	{"0", "pkg/ruleset", nil, nil},
	{"0", "pkg/policy", nil, []string{"go.yaml.in/yaml/v4"}},
	{"0", "pkg/state", nil, nil},
	{"0", "pkg/nfnetlink", nil, []string{"golang.org/x/sys"}},
	{"0", "pkg/sysctl", nil, nil},
	{"0", "pkg/link", nil, []string{"vishvananda/netlink", "golang.org/x/sys"}},
}

// shared are the modules that more than one package of cmd and pkg imports.
// Each other one belongs to a single package, so that it can be replaced there.
var shared = []string{"golang.org/x/sys", "go.yaml.in/yaml/v4"}

// forTests are the modules that only tests need, and where.
var forTests = map[string][]string{
	"rogpeppe/go-internal":          {"cmd/ipmasq"},
	"santhosh-tekuri/jsonschema/v6": {"pkg/policy"},
	"urfave/cli/v2":                 {"cmd/ipmasq"},
	"google/nftables":               {"pkg/backend/nftables"},
	"ti-mo/conntrack":               {"pkg/conntrack"},
	"gopacket/gopacket":             {"test/"},
	"charmbracelet/x":               {"test/"},
	"gdamore/tcell/v3":              {"pkg/top"},
	"vishvananda/netlink":           {"pkg/link", "pkg/sysctl", "test/"},
	"google/go-cmp":                 {""},
	"golang.org/x/sys":              {""},
	"go.yaml.in/yaml/v4":            {"pkg/policy", "cmd/ipmasq", "test/"},
	"prometheus/client_golang":      {"pkg/metrics"},
}

const module = "github.com/ipmasq/ipmasq/"

// imported is what the files of one package import.
type imported struct{ ours, thirdParty []string }

func (i *imported) add(name string) {
	list := &i.thirdParty
	if rest, ok := strings.CutPrefix(name, module); ok {
		list, name = &i.ours, rest
	} else if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return // the standard library
	} else {
		name = moduleOf(name)
	}
	if !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

var major = regexp.MustCompile(`^v[2-9]$`)

// moduleOf cuts an import path down to the module: host, owner, name, version.
func moduleOf(name string) string {
	parts := strings.Split(name, "/")
	n := 3
	if parts[0] == "go.yaml.in" {
		n = 2
	}
	if len(parts) > n && major.MatchString(parts[n]) {
		n++
	}
	return strings.TrimPrefix(path.Join(parts[:min(n, len(parts))]...), "github.com/")
}

// read parses every file of the module, for all systems and build tags.
func read(t *testing.T) (code, tests map[string]*imported) {
	t.Helper()
	root := "../.."
	code, tests = map[string]*imported{}, map[string]*imported{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		into := code
		if strings.HasSuffix(name, "_test.go") {
			into = tests
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if into[dir] == nil {
			into[dir] = &imported{}
		}
		for _, i := range f.Imports {
			into[dir].add(strings.Trim(i.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return code, tests
}

// The table is what the code does: no package, import or module that is not in
// it, and none in it that is not there.
func TestTable(t *testing.T) {
	code, _ := read(t)
	for _, r := range table {
		got := code[r.pkg]
		if got == nil {
			t.Errorf("%s: there is no such package", r.pkg)
			continue
		}
		compare(t, r.pkg, "import", got.ours, r.imports)
		compare(t, r.pkg, "import", got.thirdParty, r.thirdParty)
	}
	for dir := range code {
		known := slices.ContainsFunc(table, func(r row) bool { return r.pkg == dir })
		if !known && !strings.HasPrefix(dir, "test/") {
			t.Errorf("%s: is in no row; where does it belong?", dir)
		}
	}
}

func compare(t *testing.T, pkg, what string, got, want []string) {
	t.Helper()
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: may not %s %s", pkg, what, name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: does not %s %s, which it may: take the permission away", pkg, what, name)
		}
	}
}

// Imports only go down, so the folder list can be read from the top, and no
// package knows its users.
func TestImportsGoDown(t *testing.T) {
	index := map[string]int{}
	for i, r := range table {
		index[r.pkg] = i
	}
	for i, r := range table {
		for _, name := range r.imports {
			j, ok := index[name]
			if !ok {
				t.Errorf("%s imports %s, which is in no row", r.pkg, name)
			} else if j <= i || table[j].level > r.level {
				t.Errorf("%s (row %d, level %s) imports %s (row %d, level %s), which is not below it",
					r.pkg, i+1, r.level, name, j+1, table[j].level)
			}
		}
	}
}

// A module that a single package imports is replaced in a single place.
func TestModulesHaveOneOwner(t *testing.T) {
	owner := map[string]string{}
	for _, r := range table {
		for _, m := range r.thirdParty {
			if other := owner[m]; other != "" && !slices.Contains(shared, m) {
				t.Errorf("%s is imported by %s and by %s", m, other, r.pkg)
			}
			owner[m] = r.pkg
		}
	}
}

// What is shipped must not need what is for tests; and tests take no module
// that nobody has agreed to.
func TestTestsAside(t *testing.T) {
	code, tests := read(t)
	for dir, i := range code {
		for _, name := range i.ours {
			if strings.HasPrefix(name, "test/") && !strings.HasPrefix(dir, "test/") {
				t.Errorf("%s imports %s, which is for tests", dir, name)
			}
		}
	}
	for dir, i := range tests {
		for _, m := range i.thirdParty {
			if !slices.ContainsFunc(forTests[m], func(prefix string) bool { return strings.HasPrefix(dir, prefix) }) {
				t.Errorf("the tests of %s may not import %s", dir, m)
			}
		}
	}
	for dir, i := range code {
		for _, m := range i.thirdParty {
			if strings.HasPrefix(dir, "test/") && !slices.ContainsFunc(forTests[m], func(prefix string) bool { return strings.HasPrefix(dir, prefix) }) {
				t.Errorf("%s may not import %s", dir, m)
			}
		}
	}
}

var line = regexp.MustCompile("^\\| ?(\\d) ?\\| ?`([^`]+)` ?\\|[^|]*\\|([^|]*)\\|([^|]*)\\|$")

// The copy of the table that people read has the same rows, in the same order:
//
//	| level | package | one line | may import | third party |
//
// Names are separated by commas, and may stand in backquotes.
func TestDocs(t *testing.T) {
	const file = "../../docs/architecture.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for l := range strings.Lines(string(text)) {
		if m := line.FindStringSubmatch(strings.TrimSpace(l)); m != nil {
			rows = append(rows, row{m[1], m[2], names(m[3]), names(m[4])})
		}
	}
	for i := range max(len(rows), len(table)) {
		switch {
		case i >= len(rows):
			t.Errorf("%s has no row for %s", file, table[i].pkg)
		case i >= len(table):
			t.Errorf("%s has a row for %s, which the allow-list has not", file, rows[i].pkg)
		case rows[i].pkg != table[i].pkg || rows[i].level != table[i].level:
			t.Fatalf("%s has %s at level %s where the allow-list has %s at level %s", file, rows[i].pkg, rows[i].level, table[i].pkg, table[i].level)
		default:
			for _, pair := range [][2][]string{{rows[i].imports, table[i].imports}, {rows[i].thirdParty, table[i].thirdParty}} {
				if !slices.Equal(sorted(pair[0]), sorted(pair[1])) {
					t.Errorf("%s: %s may import %q, and in the allow-list %q", file, rows[i].pkg, pair[0], pair[1])
				}
			}
		}
	}
}

func names(cell string) []string {
	var out []string
	for name := range strings.SplitSeq(cell, ",") {
		if name = strings.Trim(name, " `"); name != "" {
			out = append(out, strings.TrimPrefix(name, "github.com/"))
		}
	}
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
