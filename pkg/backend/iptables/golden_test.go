package iptables_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

var update = flag.Bool("update", false, "write the golden files")

// everything is the name of the golden files that are no example's.
const everything = "everything"

// rulesets gives the ruleset of each example, on a desk, and one with everything.
func rulesets(t *testing.T) map[string]*ruleset.Ruleset {
	t.Helper()
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range []string{"helpers", "timeouts", "helpers-attributes"} {
		files = append(files, "../../compile/testdata/"+name+".yaml")
	}
	out := map[string]*ruleset.Ruleset{everything: backendtest.Everything(), "sets": sized(t, 10)}
	for _, file := range files {
		if strings.HasSuffix(file, ".test.yaml") {
			continue // the tests of one
		}
		p, err := policy.Load([]string{file}, policy.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := compile.Compile(p, compile.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".yaml")] = r.Ruleset
	}
	return out
}

// What each example is in iptables, and what iptables cannot do of it: what is
// left out of the rules is in the list, with its place.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, rs := range rulesets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			taken, refused := iptables.Taken(rs)
			var list strings.Builder
			for _, r := range refused {
				fmt.Fprintln(&list, strings.ReplaceAll(r.Error(), "../", ""))
				if !errors.Is(r, backend.ErrNotSupported) || r.Origin.Entry == "" || r.Origin.Place.File == "" {
					t.Errorf("it is not told of which entry this is: %v", r)
				}
			}
			golden(t, name+".refused", list.String())
			golden(t, name+".sets", iptables.RenderedSets(taken))
			golden(t, name+".rules4", iptables.Rendered(taken, ruleset.IPv4))
			golden(t, name+".rules6", iptables.Rendered(taken, ruleset.IPv6))
			if _, err := iptables.Want(rs); (err != nil) != (len(refused) > 0) {
				t.Errorf("%d are refused, and Want says %v", len(refused), err)
			}
		})
	}
}

// golden compares with a file, which is not there where nothing is expected.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if got == "" {
			_ = os.Remove(file)
		} else if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not as it was; run the test with -update and look at the difference\n%s", name, got)
	}
}
