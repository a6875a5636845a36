//go:build linux

package iptables_test

import (
	"context"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// limited is a ruleset with a rule for each rate.
func limited(rates ...ruleset.Rate) *ruleset.Ruleset {
	o := ruleset.Origin{Entry: "forward few", Place: ruleset.Place{File: "policy.yaml", Line: 1, Column: 1}}
	c := &ruleset.Chain{Name: "limits", Hook: &ruleset.Hook{Type: ruleset.TypeFilter, Point: ruleset.Forward}, Origin: o}
	for i, r := range rates {
		c.Rules = append(c.Rules, &ruleset.Rule{
			ID: string(rune('a' + i)), Origin: o, Action: ruleset.Action{Kind: ruleset.Drop},
			Matches: []ruleset.Match{{Fields: []ruleset.Field{ruleset.NFProtoField}, Value: []byte{byte(ruleset.IPv4)}}},
			Do:      []ruleset.Statement{{Kind: ruleset.RateOver, Rate: r}},
		})
	}
	return &ruleset.Ruleset{Chains: []*ruleset.Chain{c}}
}

// Rates come back from the kernel as they were written.
func TestRates(t *testing.T) {
	t.Parallel()
	const minute, hour, day = 60, 3600, 86400
	rs := limited(
		ruleset.Rate{Packets: 1, Seconds: day, Burst: 1}, ruleset.Rate{Packets: 7, Seconds: hour, Burst: 5}, ruleset.Rate{Packets: 3333, Seconds: hour, Burst: 5},
		ruleset.Rate{Packets: 999, Seconds: minute, Burst: 5}, ruleset.Rate{Packets: 7001, Seconds: minute, Burst: 5}, ruleset.Rate{Packets: 2000001, Seconds: day, Burst: 5},
		ruleset.Rate{Packets: 9999, Seconds: 1, Burst: 5}, ruleset.Rate{Packets: 20000, Seconds: 1, Burst: 50}, ruleset.Rate{Packets: 1000000, Seconds: 1, Burst: 5},
		// What is remembered for a unit is not printed.
		ruleset.Rate{Packets: 20, Seconds: 1, Burst: 10}, ruleset.Rate{Packets: 61, Seconds: minute, Burst: 60}, ruleset.Rate{Packets: 5, Seconds: hour, Burst: 5},
	)
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, variant)
			want, err := h.Want(rs)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Commit(context.Background(), plan.Diff(h.reads(t), want), false); err != nil {
				t.Fatal(err)
			}
			if d := plan.Diff(h.reads(t), want); !d.Empty() {
				t.Errorf("they differ: %+v", d)
			}
		})
	}
	for _, r := range []ruleset.Rate{{Packets: 777777, Seconds: 1, Burst: 5}, {Packets: 1, Seconds: day, Burst: 2}, {Packets: 1, Seconds: 7 * day, Burst: 1}, {Packets: 1000001, Seconds: 1, Burst: 1}} {
		if _, err := iptables.Want(limited(r)); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}
