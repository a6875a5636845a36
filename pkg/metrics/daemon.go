package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Daemon is what the daemon knows of itself: plain values, copied for each
// scrape. Numbers count since it was started.
type Daemon struct {
	// Applies are those that came to an end.
	Applies Applies
	// ApplyDurations are of the same.
	ApplyDurations Durations
	// LastApply is when the last one ended; zero where there was none.
	LastApply time.Time
	// LastApplyFailed says that it failed: the kernel is as it was before.
	LastApplyFailed bool
	// Corrections are how often something was put right that had drifted.
	Corrections Corrections
	// ReloadFailures counts policies that were read anew and are not in force,
	// because they have mistakes or could not be read.
	ReloadFailures uint64
	// ReloadFailed says that the policy files hold such a policy now. The one
	// before is in force.
	ReloadFailed bool
	// Digest and Applied are of the policy that the daemon has put in force;
	// "" and zero where there is none.
	Digest  string
	Applied time.Time
}

// Applies counts applies by result.
type Applies struct {
	Changed   uint64 // the host is other than it was
	Unchanged uint64 // there was nothing to do
	Failed    uint64
}

// Corrections counts what drifted and was put right.
type Corrections struct{ Rules, Sysctls, Routing uint64 }

// Durations counts how long something took, in buckets. The zero value is
// ready; a copy of it stays as it is.
type Durations struct {
	within [12]uint64 // those of at most the bound with the same index
	count  uint64
	sum    time.Duration
}

// bounds run from an apply that has nothing to do to one of a million entries.
func bounds() [12]float64 {
	return [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30}
}

// Observe adds one.
func (d *Durations) Observe(took time.Duration) {
	for i, bound := range bounds() {
		if took.Seconds() <= bound {
			d.within[i]++
		}
	}
	d.count++
	d.sum += took
}

func (s *samples) daemon(d Daemon) {
	s.add(applies, float64(d.Applies.Changed), "changed")
	s.add(applies, float64(d.Applies.Unchanged), "unchanged")
	s.add(applies, float64(d.Applies.Failed), "failed")
	s.durations(applyDuration, &d.ApplyDurations)
	if !d.LastApply.IsZero() {
		s.add(lastApplyTime, seconds(d.LastApply))
		s.add(lastApplyFailed, truth(d.LastApplyFailed))
	}
	s.add(corrections, float64(d.Corrections.Rules), "rules")
	s.add(corrections, float64(d.Corrections.Sysctls), "sysctls")
	s.add(corrections, float64(d.Corrections.Routing), "routing")
	s.add(reloadFailures, float64(d.ReloadFailures))
	s.add(reloadFailed, truth(d.ReloadFailed))
}

// policy names what was applied last.
func (s *samples) policy(digest string, applied time.Time) {
	if digest != "" {
		s.add(policyInfo, 1, digest)
		s.add(policyTime, seconds(applied))
	}
}

func (s *samples) durations(m metric, d *Durations) {
	buckets := map[float64]uint64{}
	for i, bound := range bounds() {
		buckets[bound] = d.within[i]
	}
	h, err := prometheus.NewConstHistogram(s.descs[m], d.count, d.sum.Seconds(), buckets)
	s.append(m, h, err)
}
