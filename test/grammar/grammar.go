// Package grammar tells the keys of the policy language, as the parser knows them, and those that a policy has: tests
// hold that none is forgotten.
package grammar

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// unknown is a key that no mapping has: the parser answers with those that one has.
const unknown = "qqqqqqqqqqqqqqq"

var keysHere = regexp.MustCompile(`unknown key "` + unknown + `"; the keys here are ([a-z0-9_, ]+)`)

// Keys gives every key of the language by its path, such as "zones.*.symmetric.mark": a name that the policy chooses is
// "*".
func Keys() map[string]bool {
	found := map[string]bool{}
	below(nil, found)
	return found
}

func below(path []string, found map[string]bool) {
	for _, key := range keys(path) {
		there := append(slices.Clone(path), key)
		found[strings.Join(there, ".")] = true
		below(there, found)
		if len(path) == 0 {
			below(append(there, "*"), found) // by names
		}
	}
}

// keys gives the keys of a mapping, or nil where there is none.
func keys(path []string) []string {
	text := "{" + unknown + ": 1}"
	for _, key := range slices.Backward(path) {
		text = "{" + strings.Replace(key, "*", "any-name", 1) + ": " + text + "}"
	}
	_, err := policy.Parse("policy.yaml", []byte("{version: 1, "+text[1:]))
	if err == nil {
		return nil
	}
	m := keysHere.FindStringSubmatch(err.Error())
	if m == nil {
		return nil
	}
	return strings.Split(m[1], ", ")
}

// Written counts the keys that a policy has, by their paths.
func Written(policy *yaml.Node, found map[string]int) { written(policy, "", found) }

func written(n *yaml.Node, path string, found map[string]int) {
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, x := range n.Content {
			written(x, path, found)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if path == "zones" || path == "sets" {
				key = "*"
			}
			there := strings.TrimPrefix(path+"."+key, ".")
			found[there]++
			written(n.Content[i+1], there, found)
		}
	}
}
