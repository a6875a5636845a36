package examples_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// noKey is a key that no mapping has: the parser answers with those that one has.
const noKey = "qqqqqqqqqqqqqqq"

var knownKeys = regexp.MustCompile(`unknown key "` + noKey + `"; the keys here are ([a-z0-9_, ]+)`)

// grammar adds every key of the language by its path, as the parser knows it.
func grammar(path []string, found map[string]bool) {
	text := "{" + noKey + ": 1}"
	for _, key := range slices.Backward(path) {
		text = "{" + strings.Replace(key, "*", "any-name", 1) + ": " + text + "}"
	}
	_, err := policy.Parse("policy.yaml", []byte("{version: 1, "+text[1:]))
	if err == nil {
		return
	}
	m := knownKeys.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	for key := range strings.SplitSeq(m[1], ", ") {
		below := append(slices.Clone(path), key)
		found[strings.Join(below, ".")] = true
		grammar(below, found)
		if len(path) == 0 {
			grammar(append(below, "*"), found) // by names
		}
	}
}

// writtenKeys adds the paths of all keys that a policy has.
func writtenKeys(n *yaml.Node, path string, found map[string]bool) {
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, x := range n.Content {
			writtenKeys(x, path, found)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if path == "zones" || path == "sets" {
				key = "*"
			}
			below := strings.TrimPrefix(path+"."+key, ".")
			found[below] = true
			writtenKeys(n.Content[i+1], below, found)
		}
	}
}

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
	known := map[string]bool{}
	grammar(nil, known)
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
			found := map[string]bool{}
			writtenKeys(&doc, "", found)
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
