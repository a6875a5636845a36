package gallery

import (
	"path/filepath"
	"strings"
	"testing"
)

// Each example is looked at on a host that it was not written for: whatever is
// said, it is said.
func TestExamples(t *testing.T) {
	examples, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("there are no examples: %v", err)
	}
	g := newGateway(t)
	for _, file := range examples {
		if strings.HasSuffix(file, ".test.yaml") {
			continue // not a policy, but its tests
		}
		if found := g.doctor(t, file); len(found) == 0 {
			t.Errorf("%s: there is nothing to say", file)
		}
	}
}
