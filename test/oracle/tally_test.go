package oracle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
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
		var refused *backend.Refused
		if g.variant != "" && errors.As(err, &refused) {
			return
		}
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
		list := slices.DeleteFunc(a.packets(flowsA, j), func(q *Packet) bool { return g.other(p, q) })
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

// other says of packets that iptables, or what the backend makes of it, takes for
// others than nftables does: docs/backends.md tells what is different.
func (g *Gateway) other(policy *random.Policy, p *Packet) bool {
	if g.variant == "" {
		return false
	}
	// With antispoof of an uplink, what is behind others is told by the networks of
	// zones, and not by the routes.
	if (p.In == "eth0" || p.In == "ppp0") && strings.Contains(policy.Text, "antispoof: true") && strings.Contains(policy.Text, "symmetric") {
		return true
	}
	// Who comes from outside with an inside address gets no answer there.
	if (p.In == "eth0" || p.In == "ppp0") && p.Source.IsPrivate() && strings.Contains(policy.Text, "symmetric") {
		return true
	}
	// What no entry exposes of the gateway itself is dropped before input is asked,
	// which might refuse it.
	if strings.Contains(policy.Text, "\none_to_one:") && strings.Contains(policy.Text, "\ninput:") {
		return true
	}
	// Addresses of any link are taken for those of the one that a packet comes by.
	return p.Destination.Is6() && p.Destination.IsLinkLocalUnicast() && slices.Contains(g.own(), p.Destination)
}
