package gallery

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// elsewhere are findings that no gateway of the lab can have, and why. They are
// tested on evidence that is written down, in pkg/doctor.
var elsewhere = map[string]string{
	"no-nftables":   "the kernel of the lab has them",
	"apply-failed":  "a kernel that fails in the middle of an apply is none to be had",
	"helper-module": "the kernel of the lab may have all built in",
	"daemon-gone":   "the lab has no service manager",
}

func exhibitions() [][]exhibit {
	return [][]exhibit{linkExhibits, routeExhibits, policyRoutingExhibits, markExhibits, ipsecExhibits, bridgeExhibits, kernelExhibits, stateExhibits, ruleExhibits, sharedExhibits, flowExhibits}
}

// Each finding of the page is in the gallery, with a severity that the page
// gives it.
func TestEveryFindingIsShown(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	severities := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| ([a-z, ]+) \\|").FindAllStringSubmatch(string(page), -1) {
		severities[m[1]] = strings.Split(m[2], ", ")
	}
	shown, broken := map[string]bool{"conntrack-was-full": true}, 0 // TestWasFull
	for _, exhibits := range exhibitions() {
		for _, x := range exhibits {
			broken++
			shown[x.first] = true
			if !slices.Contains(severities[x.first], x.severity) {
				t.Errorf("%s: docs/doctor.md says that %s is %v, not %s", x.name, x.first, severities[x.first], x.severity)
			}
		}
	}
	for id := range severities {
		if !shown[id] && elsewhere[id] == "" {
			t.Errorf("%s is not in the gallery", id)
		}
	}
	if broken < 40 {
		t.Errorf("the gallery has %d broken gateways, and is to have 40", broken)
	}
}
