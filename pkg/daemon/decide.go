package daemon

import (
	"slices"
	"time"
)

// cause is why something may have to be done; causes come together.
type cause uint8

const (
	causeFiles    cause = 1 << iota // policy files may have changed
	causeReload                     // somebody asks for it
	causeHost                       // links, addresses, routes or rules
	causeRules                      // somebody has changed our rules, or may have
	causeGone                       // somebody has removed them
	causeSettings                   // somebody has changed sysctls that the policy needs
	causeDocker                     // Docker has changed its rules, or somebody ours in them
	causeRetry                      // what failed is tried again
)

const (
	// A policy is read when its files have been quiet for so long, or at the
	// latest so long after the first change.
	filesQuiet = 100 * time.Millisecond
	filesMost  = 2 * time.Second
	// A file that is open for writing is given more time.
	writingQuiet = time.Second
	hostQuiet    = 100 * time.Millisecond
	hostMost     = time.Second
	// goneMost bounds how long rules are left away in a fight about them: the
	// host forwards without them.
	goneMost = 100 * time.Millisecond
	// share is how much of the time what others do may keep the daemon busy: a
	// tenth.
	share = 10
	// lookMost bounds how long rules that nobody hears of are not looked at.
	lookMost = 3 * time.Second
)

// event is what a source has seen.
type event struct {
	cause
	who     string // who has done it, or ""
	writing bool   // causeFiles: a file that is still open
}

// job is what is to be done, and why.
type job struct {
	cause
	who []string
}

// reads says whether the policy is read from its files.
func (j job) reads() bool { return j.cause&(causeFiles|causeReload) != 0 }

// decider decides what is done and when. It knows no clock, no file and no
// kernel: what has happened goes in with its time, what is to be done comes out.
type decider struct {
	files, host      debounce
	rules, settings  backoff
	docker           backoff
	failures         backoff
	urgent           cause // of causeReload, causeRules, causeGone, causeSettings, causeDocker, causeRetry: those that wait
	who              []string
	hostNot          time.Time // before when the host is not looked at
	rulesNot         time.Time // before when the rules are not read
	retry            time.Time
	withheld         bool // the policy in the files is not in force
	retriesFromFiles bool
}

// whoMost bounds how many names are kept.
const whoMost = 5

// happened takes an event.
func (d *decider) happened(now time.Time, e event) {
	if e.cause&causeFiles != 0 {
		quiet := filesQuiet
		if e.writing {
			quiet = writingQuiet
		}
		d.files.add(now, quiet, filesMost)
	}
	if e.cause&causeHost != 0 {
		d.host.add(now, hostQuiet, hostMost)
	}
	d.urgent |= e.cause & (causeReload | causeRules | causeGone | causeSettings | causeDocker)
	if e.who != "" && len(d.who) < whoMost && !slices.Contains(d.who, e.who) {
		d.who = append(d.who, e.who)
	}
}

// next gives the job that is due, or when to ask again; zero: after the next
// event.
func (d *decider) next(now time.Time) (j job, due bool, again time.Time) {
	wait := func(c cause, at time.Time) {
		switch {
		case !at.After(now):
			j.cause |= c
		case again.IsZero() || at.Before(again):
			again = at
		}
	}
	if d.urgent&causeReload != 0 {
		j.cause |= causeReload
	}
	if d.files.pending {
		wait(causeFiles, d.files.due())
	}
	if d.host.pending {
		wait(causeHost, latest(d.host.due(), d.hostNot))
	}
	if d.urgent&causeSettings != 0 {
		wait(causeSettings, d.settings.until)
	}
	if d.urgent&causeDocker != 0 {
		wait(causeDocker, d.docker.until)
	}
	switch {
	case d.urgent&causeGone != 0:
		wait(causeGone|causeRules, earliest(d.rules.until, d.rules.last.Add(goneMost)))
	case d.urgent&causeRules != 0:
		wait(causeRules, latest(d.rules.until, d.rulesNot))
	}
	if d.urgent&causeRetry != 0 {
		wait(causeRetry, d.retry)
	}
	if j.cause == 0 {
		return job{}, false, again
	}
	d.take(&j)
	return j, true, time.Time{}
}

// take has a job settle all that it can. To put a policy in force settles
// everything; files that are being written are left until they are quiet.
func (d *decider) take(j *job) {
	if j.cause&(causeFiles|causeReload) != 0 {
		d.files = debounce{}
	}
	// What the policy wants may depend on the host, and so may whether it can be
	// had.
	if j.cause&causeHost != 0 && d.withheld || j.cause&causeRetry != 0 && d.retriesFromFiles {
		j.cause |= causeFiles
	}
	if d.host.pending {
		j.cause |= causeHost
	}
	j.cause |= d.urgent &^ (causeReload | causeRetry)
	j.who = d.who
	waits := d.urgent & causeRetry
	if j.cause&causeRetry != 0 || j.reads() || !d.retriesFromFiles {
		waits = 0
	}
	d.host, d.urgent, d.who = debounce{}, waits, nil
}

// outcome is what a job came to.
type outcome struct {
	took   time.Duration
	failed bool // to be tried again; not: a policy with mistakes
	// rules and settings say that those were not as they should be, and not by
	// the daemon's or the host's doing.
	rules, settings bool
	// docker says that something was done about what Docker has changed.
	docker bool
	// withheld says that the policy in the files is not in force.
	withheld bool
}

// ended takes the end of a job.
func (d *decider) ended(now time.Time, j job, o outcome) {
	budget := now.Add(share * o.took)
	if j.cause&causeHost != 0 {
		d.hostNot = budget
	}
	if j.cause&causeRules != 0 {
		d.rulesNot = budget
	}
	if o.rules {
		d.rules.again(now)
	}
	if o.settings {
		d.settings.again(now)
	}
	if o.docker {
		d.docker.again(now)
	}
	if j.reads() {
		d.withheld = o.withheld
	}
	if !o.failed {
		if d.urgent&causeRetry == 0 {
			d.failures = backoff{}
		}
		return
	}
	d.failures.again(now)
	d.retriesFromFiles = j.reads() || d.urgent&causeRetry != 0 && d.retriesFromFiles
	d.urgent |= causeRetry
	d.retry = latest(d.failures.until, now.Add(time.Second))
}

// debounce waits until something has been quiet for a while.
type debounce struct {
	pending     bool
	first, last time.Time
	quiet, most time.Duration
}

func (d *debounce) add(now time.Time, quiet, most time.Duration) {
	if !d.pending {
		d.first = now
	}
	d.pending, d.last, d.quiet, d.most = true, now, quiet, most
}

func (d *debounce) due() time.Time {
	return earliest(d.last.Add(d.quiet), d.first.Add(d.most))
}

// backoff makes what is done again and again rarer.
type backoff struct {
	streak int
	last   time.Time
	until  time.Time // not before
}

const (
	free       = 3 // times in a row that cost nothing
	backoffMin = 250 * time.Millisecond
	backoffMax = time.Minute
	// forget is after how long what comes again is no fight, beside the time that
	// was waited: what happens every few seconds costs little.
	forget = 3 * time.Second
)

// again counts one more time.
func (b *backoff) again(now time.Time) {
	if now.Sub(b.last) > forget+b.until.Sub(b.last) {
		b.streak = 0
	}
	b.streak++
	b.last, b.until = now, now
	if over := b.streak - free; over > 0 {
		b.until = now.Add(min(backoffMin<<min(over-1, 16), backoffMax))
	}
}

// fight is how long one of them waits now; 0 while there is none.
func (b *backoff) fight() time.Duration { return b.until.Sub(b.last) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
