package metrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

// host is a source that counts how often it is read, and by how many at once.
type host struct {
	mu                   sync.Mutex
	reads, now, most     int
	takes                time.Duration
	heedless, unreadable bool
}

func (h *host) status(ctx context.Context) (*engine.Status, error) {
	h.mu.Lock()
	h.reads++
	h.now++
	h.most = max(h.most, h.now)
	reads, takes, unreadable := h.reads, h.takes, h.unreadable
	h.mu.Unlock()
	defer func() { h.mu.Lock(); h.now--; h.mu.Unlock() }()
	end := ctx.Done()
	if h.heedless {
		end = nil
	}
	select {
	case <-time.After(takes):
	case <-end:
		return nil, ctx.Err()
	}
	if unreadable {
		return nil, errors.New("unreadable")
	}
	return &engine.Status{Conntrack: engine.Conntrack{Count: uint64(reads)}}, nil
}

// becomes changes what the next reading is like.
func (h *host) becomes(takes time.Duration, unreadable bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takes, h.unreadable = takes, unreadable
}

// seen is how often it was read so far, and by how many at once.
func (h *host) seen() (reads, most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads, h.most
}

func has(t *testing.T, c *Collector, lines ...string) {
	t.Helper()
	var b strings.Builder
	if err := write(&b, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range lines {
		found := strings.Contains(b.String(), "\n"+strings.TrimPrefix(want, "!")+"\n")
		if found == strings.HasPrefix(want, "!") {
			t.Errorf("%s, in\n%s", want, b.String())
		}
	}
}

// Scrapes within a second cost one reading; later ones read anew.
func TestKeptForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{takes: 100 * time.Millisecond}
		c := New(h.status, nil, built, nil)
		has(t, c, "ipmasq_up 1", "ipmasq_conntrack_entries 1", "ipmasq_read_duration_seconds 0.1")
		time.Sleep(fresh - time.Millisecond)
		has(t, c, "ipmasq_conntrack_entries 1")
		time.Sleep(time.Millisecond)
		has(t, c, "ipmasq_conntrack_entries 2")
		if reads, _ := h.seen(); reads != 2 {
			t.Errorf("%d readings, want 2", reads)
		}
	})
}

// However many scrape, one of them reads, and all get that.
func TestNeverTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{takes: time.Second}
		c := New(h.status, nil, built, nil)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				has(t, c, "ipmasq_up 1", "ipmasq_conntrack_entries 1")
			})
		}
		all.Wait()
		if reads, most := h.seen(); reads != 1 || most != 1 {
			t.Errorf("%d readings, %d at once; want one", reads, most)
		}
	})
}

// A reading that fails is none: the daemon's facts are there, and nothing that
// would look like a gateway at rest.
func TestFailedReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{unreadable: true, takes: time.Millisecond}
		var told []string
		c := New(h.status, facts, built, func(err error) { told = append(told, err.Error()) })
		has(t, c, "ipmasq_up 0", `ipmasq_applies_total{result="changed"} 5`, `ipmasq_policy_info{digest="fedcba9876543210"} 1`,
			"!ipmasq_drift 0", "!ipmasq_conntrack_entries 0")
		h.becomes(time.Millisecond, false)
		time.Sleep(fresh)
		has(t, c, "ipmasq_up 1", "ipmasq_drift 0", `!ipmasq_policy_info{digest="fedcba9876543210"} 1`) // the kernel holds none
		if fmt.Sprint(told) != "[unreadable]" {
			t.Errorf("told %q", told)
		}
	})
}

// A source that does not come to an end holds up nobody for longer than
// patience, and is not asked a second time meanwhile.
func TestSlowReading(t *testing.T) {
	for _, heedless := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &host{takes: 20 * time.Second, heedless: heedless}
			failures := 0
			c := New(h.status, facts, built, func(error) { failures++ })
			start := time.Now()
			has(t, c, "ipmasq_up 0", `ipmasq_applies_total{result="changed"} 5`)
			if took := time.Since(start); took > patience+grace {
				t.Errorf("the scrape took %v", took)
			}
			if failures != 1 {
				t.Errorf("somebody was told %d times, want once", failures)
			}
			if heedless {
				has(t, c, "ipmasq_up 0")
				if reads, _ := h.seen(); reads != 1 || failures != 1 {
					t.Errorf("%d readings, %d reports of it; want one", reads, failures)
				}
			}
			time.Sleep(20 * time.Second) // the end of it is a reading as any other
			h.becomes(time.Millisecond, false)
			has(t, c, "ipmasq_up 1")
			if _, most := h.seen(); most != 1 {
				t.Errorf("%d readings at once", most)
			}
		})
	}
}
