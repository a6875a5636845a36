package examples_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/ipmasq/ipmasq/test/grammar"
)

// alike gives one path for the places of a key whose value is read by the same
// code in several sections: an example of one is an example of all.
func alike(path string) string {
	for _, shared := range []string{"rate", "log", "max_connections", "timeouts"} {
		if _, below, ok := strings.Cut(path, "."+shared+"."); ok {
			return "*." + shared + "." + below
		}
	}
	return path
}

// Each key that the parser knows stands in an example of docs/policy.md that
// TestDocumentedPoliciesApply applies.
func TestEveryKeyHasAnExample(t *testing.T) {
	known := grammar.Keys()
	if len(known) < 100 || !known["forward.rules.rate.burst"] || !known["zones.*.symmetric.mark"] {
		t.Fatalf("the parser tells only %v", slices.Sorted(maps.Keys(known)))
	}
	shown := map[string]bool{}
	for _, s := range policies(t, "../../docs/policy.md") {
		if s.word == "wrong" || s.word == "warning" {
			continue
		}
		for _, path := range s.paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var doc yaml.Node
			if err := yaml.Unmarshal(text, &doc); err != nil {
				t.Fatal(err)
			}
			found := map[string]int{}
			grammar.Written(&doc, found)
			for path := range found {
				shown[alike(path)] = true
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(known)) {
		key := path[strings.LastIndex(path, ".")+1:]
		if key == "generic" && !strings.HasPrefix(path, "gateway.") {
			continue // of an entry it is a mistake, and said to be one: the kernel has none to give
		}
		if !shown[alike(path)] {
			t.Errorf("no example in docs/policy.md has %s", path)
		}
	}
	t.Logf("%d places of keys", len(known))
}
