package doctor

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// The page has each finding once, and no other.
func TestEveryFindingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		if slices.Contains(documented, m[1]) {
			t.Errorf("docs/doctor.md has %s twice", m[1])
		}
		documented = append(documented, m[1])
	}
	for _, id := range IDs() {
		if !slices.Contains(documented, id) {
			t.Errorf("docs/doctor.md lacks %s", id)
		}
	}
	for _, id := range documented {
		if !slices.Contains(IDs(), id) {
			t.Errorf("docs/doctor.md has %s, which is never found", id)
		}
	}
}
