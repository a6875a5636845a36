package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	// How long the traffic goes undisturbed, to see what the machine itself loses.
	calmFor = 2 * time.Second
	// Between two reloads, for what was lost to be sent again.
	between = 50 * time.Millisecond
)

// measured is one run of a peer.
type measured struct {
	calm, reloads felt // without reloads, and with
	took          []time.Duration
}

// reliable reports whether the machine kept up, so that what was lost, the reloads have lost.
func (m *measured) reliable() bool {
	return m.calm.lost == 0 && m.calm.freshLost == 0 && m.calm.failed == 0 && m.calm.overrun == 0 && m.reloads.overrun == 0
}

// careful measures a peer at a rate that the machine can do.
func careful(p *peer, rate, reloads int) *measured {
	for {
		tb := &lab.Program{}
		m, err := measure(tb, p, rate, reloads, calmFor)
		if err != nil {
			tb.Fatalf("reliability: %s: %v", p.name, err)
		}
		tb.Close()
		if m.reliable() || rate/2 < minRate {
			return m
		}
		rate /= 2
		tb.Logf("reliability: the machine does not keep up; again, at %d packets a second", rate)
	}
}

// measure has traffic go through a peer's gateway for a while, and then while the rules are loaded anew.
func measure(t lab.TB, p *peer, rate, reloads int, calm time.Duration) (*measured, error) {
	g := install(t, p)
	m := &measured{}
	undisturbed, err := start(g, rate)
	if err != nil {
		return nil, err
	}
	time.Sleep(calm)
	if m.calm, err = undisturbed.stop(); err != nil {
		return nil, err
	}
	if m.calm.leaked > 0 || m.calm.passed > 0 {
		return nil, fmt.Errorf("without any reload %d packets leaked, and %d got in", m.calm.leaked, m.calm.passed)
	}
	if !m.reliable() {
		return m, nil
	}
	disturbed, err := start(g, rate)
	if err != nil {
		return nil, err
	}
	for i := range reloads {
		took, err := g.reload(i%2 == 0)
		if err != nil {
			return nil, fmt.Errorf("reload %d: %w", i+1, err)
		}
		m.took = append(m.took, took)
		time.Sleep(between)
		disturbed.transfer.moves()
	}
	if m.reloads, err = disturbed.stop(); err != nil {
		return nil, err
	}
	return m, g.check()
}

// median is the median time of a reload.
func (m *measured) median() time.Duration {
	if len(m.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(m.took))
	return sorted[len(sorted)/2]
}
