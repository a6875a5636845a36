package oracle

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/test/grammar"
	"github.com/ipmasq/ipmasq/test/random"
)

// excluded are the keys that the oracle's policies do not have, with the reason.
// An asterisk is any key.
var excluded = map[string]string{
	"version":                  "it is in every policy",
	"sets.*.file":              "what a line file says is what a list says: package policy reads both into one",
	"gateway.backend":          "TestOracleIPTables has the other ones",
	"gateway.docker":           "there is no Docker in the oracle's host: TestDockerAccept has",
	"gateway.conntrack":        "settings of the host, which change neither verdict nor translation",
	"gateway.conntrack.*":      "the same",
	"gateway.conntrack.*.*":    "the same",
	"gateway.conntrack.*.*.*":  "the same",
	"gateway.offload.hardware": "there is no hardware that takes flows",
	"gateway.forwarding":       "the host forwards both families, so that what the rules do is seen",
	"gateway.forwarding.*":     "the same",
	"*.timeouts.*":             "how long flows live; rounds are shorter",
	"*.timeouts.*.*":           "the same",
	"*.rules.rate.per":         "a rate that nothing reaches counts nobody by himself",
	"*.log.rate.per":           "how much is logged changes neither verdict nor translation",
	"*.rules.log.rate.per":     "the same",
}

// TestEveryKey has the oracle's policies use every key that the parser knows,
// but for those on the list.
func TestEveryKey(t *testing.T) {
	t.Parallel()
	known := grammar.Keys()
	if len(known) < 100 || !known["forward.rules.rate.burst"] || !known["zones.*.symmetric.mark"] {
		t.Fatalf("the parser tells only %v", slices.Sorted(maps.Keys(known)))
	}
	made := map[string]int{}
	maker := random.Generator{Offload: true, Timeless: true}
	used := map[string]bool{}
	reason := func(path string) string {
		for pattern, why := range excluded {
			if ok, _ := filepath.Match(strings.ReplaceAll(pattern, ".", "/"), strings.ReplaceAll(path, ".", "/")); ok {
				used[pattern] = true
				return why
			}
		}
		return ""
	}
	lacks := func() bool {
		for path := range known {
			if made[path] == 0 && reason(path) == "" {
				return true
			}
		}
		return false
	}
	for i := uint64(0); i < 250 && lacks(); i++ {
		maker.Rand = rand.New(rand.NewPCG(7, i))
		p, err := maker.Policy(compile.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(p.Text), &doc); err != nil {
			t.Fatal(err)
		}
		grammar.Written(&doc, made)
	}
	n := 0
	for _, path := range slices.Sorted(maps.Keys(known)) {
		why := reason(path)
		switch {
		case made[path] == 0 && why == "":
			t.Errorf("no policy has %s: give package random a place for it, or put it on the list with the reason", path)
		case made[path] > 0 && why == "":
			n++
		}
	}
	for pattern := range excluded {
		if !used[pattern] {
			t.Errorf("%s is on the list, and the parser knows no such key", pattern)
		}
	}
	t.Logf("%d of %d keys", n, len(known))
}
