package oracle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/random"
)

// tally counts what was compared.
type tally struct {
	sent, passed, skipped, policies, refused, differences int

	entries map[string]int // packets by section that an entry had a hand in
}

func (x *tally) add(y *tally) {
	x.sent, x.passed, x.skipped, x.policies, x.refused = x.sent+y.sent, x.passed+y.passed, x.skipped+y.skipped, x.policies+y.policies, x.refused+y.refused
	for k, n := range y.entries {
		x.entries[k] += n
	}
}

func (x *tally) sections() string {
	var list []string
	for k, n := range x.entries {
		list = append(list, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

const (
	rounds = 3  // of packets for one policy
	flowsA = 60 // first packets in a round
)

// play sends packets through one policy, and shows what is different.
func (x *tally) play(t *testing.T, g *Gateway, p *random.Policy, r *rand.Rand) {
	t.Helper()
	if err := g.Apply(p.Parsed); err != nil {
		x.refused++
		t.Errorf("%v\n%s", err, p.Text)
		return
	}
	// The routes of symmetric uplinks are part of the facts by now.
	p, err := random.Read(p.Text, g.Facts())
	if err != nil {
		t.Errorf("%v\n%s", err, p.Text)
		return
	}
	x.policies++
	a, j := newAim(r, p, g), g.judge(p)
	for range rounds {
		list := a.packets(flowsA, j)
		round := g.play(j, list)
		x.sent, x.passed, x.skipped = x.sent+round.Sent, x.passed+round.Passed, x.skipped+round.Skipped
		for entry := range round.Entries {
			section, _, _ := strings.Cut(entry, " ")
			x.entries[section] += round.Entries[entry]
		}
		if len(round.Differences) > 0 {
			x.differences++
			t.Errorf("%s", g.shrink(p.Text, list, &round.Differences[0]))
			return
		}
	}
}
