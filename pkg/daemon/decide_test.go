package daemon

import (
	"testing"
	"time"
)

// clock is a time that only a test moves.
type clock struct {
	*testing.T
	decider
	now time.Time
}

func newClock(t *testing.T) *clock { return &clock{T: t, now: time.Unix(1e9, 0)} }

func (c *clock) after(d time.Duration, e event) {
	c.now = c.now.Add(d)
	c.happened(c.now, e)
}

// due moves the time to when a job is due, and gives it and how long that took.
func (c *clock) due() (job, time.Duration) {
	c.Helper()
	start := c.now
	for range 10 {
		j, due, again := c.next(c.now)
		if due {
			return j, c.now.Sub(start)
		}
		if again.IsZero() {
			c.Fatal("nothing is to be done, ever")
		}
		if !again.After(c.now) {
			c.Fatalf("asked to wait until %v at %v", again, c.now)
		}
		c.now = again
	}
	c.Fatal("what is due at a time is not due then")
	return job{}, 0
}

// wants expects a job after a while, and ends it.
func (c *clock) wants(what cause, after time.Duration, o outcome) job {
	c.Helper()
	j, waited := c.due()
	if j.cause != what || waited != after {
		c.Errorf("causes %#x after %v, want %#x after %v", j.cause, waited, what, after)
	}
	c.now = c.now.Add(o.took)
	c.ended(c.now, j, o)
	return j
}

func (c *clock) idle() {
	c.Helper()
	if j, due, again := c.next(c.now); due || !again.IsZero() {
		c.Errorf("causes %#x, or again at %v, where there is nothing to do", j.cause, again)
	}
}

func TestFilesAreLeftUntilQuiet(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.idle()
	c.after(0, event{cause: causeFiles})
	c.after(60*time.Millisecond, event{cause: causeFiles})
	c.wants(causeFiles, 100*time.Millisecond, outcome{})
	c.idle()

	// One that is being written has more time, until it is closed.
	c.after(0, event{cause: causeFiles, writing: true})
	c.after(500*time.Millisecond, event{cause: causeFiles, writing: true})
	c.after(500*time.Millisecond, event{cause: causeFiles})
	c.wants(causeFiles, 100*time.Millisecond, outcome{})

	// What never ends is read all the same.
	for range 39 {
		c.after(50*time.Millisecond, event{cause: causeFiles})
	}
	c.wants(causeFiles, 100*time.Millisecond, outcome{}) // the first was 1.9 s before
	for range 100 {
		c.after(25*time.Millisecond, event{cause: causeFiles})
	}
	c.wants(causeFiles, 0, outcome{})
}

func TestReloadIsAtOnce(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeFiles})
	c.after(0, event{cause: causeReload})
	c.wants(causeReload, 0, outcome{}) // and the files are read with it
	c.idle()
}

func TestOneJobSettlesAll(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeHost})
	c.after(0, event{cause: causeRules, who: "nft (pid 1)"})
	c.after(0, event{cause: causeRules | causeGone, who: "nft (pid 2)"})
	c.after(0, event{cause: causeRules | causeGone, who: "nft (pid 2)"})
	j := c.wants(causeHost|causeRules|causeGone, 0, outcome{})
	if len(j.who) != 2 {
		t.Errorf("it was %q", j.who)
	}
	c.idle()
	// But a file that is being written is left.
	c.after(0, event{cause: causeFiles})
	c.after(0, event{cause: causeSettings})
	c.wants(causeSettings, 0, outcome{})
	c.wants(causeFiles, 100*time.Millisecond, outcome{})
}

func TestHostIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeHost})
	c.wants(causeHost, 100*time.Millisecond, outcome{took: time.Second})
	// A second's work is not begun again before ten seconds.
	c.after(0, event{cause: causeHost})
	c.wants(causeHost, 10*time.Second, outcome{})
}

func TestFights(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	altered := event{cause: causeRules, who: "x"}
	for _, wait := range []time.Duration{0, 0, 0, 0, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		c.after(0, altered)
		c.wants(causeRules, wait, outcome{rules: true})
	}
	if c.rules.fight() != time.Minute {
		t.Errorf("the fight is for %v", c.rules.fight())
	}
	// Rules that are gone are not left away for so long.
	c.after(0, event{cause: causeRules | causeGone})
	c.wants(causeRules|causeGone, goneMost, outcome{rules: true})
	// Sysctls are another matter.
	c.after(0, event{cause: causeSettings})
	c.wants(causeSettings, 0, outcome{settings: true})
	// What happens every few seconds is no fight.
	for range 20 {
		c.after(5*time.Second, event{cause: causeSettings})
		c.wants(causeSettings, 0, outcome{settings: true})
	}
	// After a long peace it begins anew.
	c.now = c.now.Add(10 * time.Minute)
	c.after(0, altered)
	c.wants(causeRules, 0, outcome{rules: true})
	c.after(0, altered)
	c.wants(causeRules, 0, outcome{rules: true})
	if c.rules.fight() != 0 {
		t.Error("it is a fight still")
	}
}

func TestReadingIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeRules})
	c.wants(causeRules, 0, outcome{took: 200 * time.Millisecond})
	c.after(0, event{cause: causeRules})
	c.wants(causeRules, 2*time.Second, outcome{took: 200 * time.Millisecond})
	// Not so rules that are gone.
	c.after(0, event{cause: causeRules | causeGone})
	c.wants(causeRules|causeGone, 0, outcome{})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeFiles})
	c.wants(causeFiles, 100*time.Millisecond, outcome{failed: true, withheld: true})
	for _, wait := range []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second, time.Second, 2 * time.Second} {
		c.wants(causeFiles|causeRetry, wait, outcome{failed: true, withheld: true})
	}
	c.wants(causeFiles|causeRetry, 4*time.Second, outcome{})
	c.idle()
	// Another job does not make it forgotten.
	c.after(0, event{cause: causeFiles})
	c.wants(causeFiles, 100*time.Millisecond, outcome{failed: true})
	c.after(0, event{cause: causeRules})
	c.wants(causeRules, 0, outcome{})
	c.wants(causeFiles|causeRetry, time.Second, outcome{})
	c.idle()
	// What did not come from files is not read from them.
	c.after(0, event{cause: causeSettings})
	c.wants(causeSettings, 0, outcome{failed: true})
	c.wants(causeRetry, time.Second, outcome{})
	c.idle()
}

// A policy that the host does not allow is tried again when that changes.
func TestWithheldPolicyAndHost(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	c.after(0, event{cause: causeFiles})
	c.wants(causeFiles, 100*time.Millisecond, outcome{withheld: true})
	c.idle()
	c.after(0, event{cause: causeHost})
	c.wants(causeFiles|causeHost, 100*time.Millisecond, outcome{})
	c.after(0, event{cause: causeHost})
	c.wants(causeHost, 100*time.Millisecond, outcome{})
}
