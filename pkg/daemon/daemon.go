// Package daemon holds a policy in force: it applies what is in the policy
// files when they change, and puts right what others change of the host.
//
// What is in force is what was applied last, whoever did it. The files count
// when they change, and when somebody asks for it: an apply or a rollback by
// hand is kept until then, so that the daemon never fights the administrator.
// Everything else that touches the rules or the sysctls that they need is
// undone, and said.
//
// Sources tell that something may have changed; decider says when what is done
// about it; one job runs at a time. A job never believes a source: it compares
// contents, facts and rules.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// Rules is told of commits to the kernel's rules. Between Pause and Resume it
// is not.
type Rules interface {
	Next() (backend.Foreign, error)
	Pause() error
	Resume() error
	Stop()
	Close() error
}

// Daemon is one for a network namespace. The fields are set before Run.
type Daemon struct {
	Engine *engine.Engine
	// Load reads the policy from Paths, which need not be there.
	Load func() (*policy.Policy, error)
	// Check finds the mistakes of a policy that no host mends.
	Check func(*policy.Policy) error
	Paths []string
	// Rules tells of commits to nf_tables. It may be nil. Where it is, or the
	// rules are not there, the generation is asked for, some times a second, and it
	// is not known who has changed it.
	Rules  Rules
	Owns   func() bool // the rules are this process's alone
	Log    *Log
	Notify *Notifier
	// Explain gives a text for the mistakes of a policy.
	Explain func(error) string
	// Done is told of each job that applied something or tried to. It may be nil.
	Done func(Report)
	// DeleteOnExit removes everything at the end.
	DeleteOnExit bool
}

// ErrMistakes ends a daemon that has nothing to hold in force. What the mistakes
// are has been logged.
var ErrMistakes = errors.New("the policy has mistakes, and there is none from before: nothing is in force")

// Report is what a job came to.
type Report struct {
	Applied bool // a policy was put in force, or tried to be
	Changed bool // the host is other than it was
	Failed  bool
	Took    time.Duration
	// Rules, Sysctls and Routing say what had drifted and was put right.
	Rules, Sysctls, Routing bool
	// Read says that the files were read anew, Withheld that what they hold is
	// not in force.
	Read, Withheld bool
	// Digest names the policy in force; Since is when it was applied.
	Digest string
	Since  time.Time
}

const (
	tick = time.Second
	// blindTick is tick where nobody tells of commits.
	blindTick = 250 * time.Millisecond
	// printsEvery is after how many ticks files are looked at that notify nobody.
	printsEvery = 10 * time.Second
	// jobTime bounds a job.
	jobTime = 2 * time.Minute
)

// Run runs until the context ends, which is no error. Reload has it read the
// policy and apply it, changed or not.
func (d *Daemon) Run(ctx context.Context, reload <-chan os.Signal) error {
	release, err := d.Engine.State.HoldDaemon()
	if err != nil {
		return err
	}
	defer release()
	s := &sources{events: make(chan told, 16), quit: make(chan struct{}), log: d.Log}
	defer s.close()
	w := &worker{Daemon: d, said: state.Daemon{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second), Files: d.Paths}}
	if err := s.open(d); err != nil {
		return err
	}
	w.files = s.files
	w.say()
	err = d.loop(ctx, reload, s, w)
	d.Notify.tell("STOPPING=1", status("stopping"))
	if err == nil && d.DeleteOnExit {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobTime)
		defer cancel()
		if _, err := d.Engine.Delete(ctx, false); err != nil {
			return fmt.Errorf("delete on exit: %w", err)
		}
		d.Log.Printf(Notice, "stopped: rules and sysctls are as they were before")
		return nil
	}
	if err == nil {
		d.Log.Printf(Notice, "stopped: %s", w.leaves())
	}
	return err
}

// running is a job that is going on.
type running struct {
	job
	since time.Time
	ended chan outcome
}

func (d *Daemon) loop(ctx context.Context, reload <-chan os.Signal, s *sources, w *worker) error {
	every := w.every()
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	var watchdog <-chan time.Time
	if d.Notify.Watchdog > 0 {
		t := time.NewTicker(max(d.Notify.Watchdog/2, time.Millisecond))
		defer t.Stop()
		watchdog = t.C
	}
	decide := &decider{}
	decide.happened(time.Now(), event{cause: causeReload})
	var now *running
	start := func(j job) {
		now = &running{j, time.Now(), make(chan outcome, 1)}
		go func(r *running) {
			ctx, cancel := context.WithTimeoutCause(ctx, jobTime, fmt.Errorf("given up after %v", jobTime))
			defer cancel()
			r.ended <- w.do(ctx, r.job)
		}(now)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ended <-chan outcome
		if now == nil {
			j, due, again := decide.next(time.Now())
			switch {
			case due:
				start(j)
			case !again.IsZero():
				timer.Reset(time.Until(again))
			}
		}
		if now != nil {
			ended = now.ended
		}
		select {
		case <-ctx.Done():
			if now != nil {
				<-now.ended // it heeds the context
			}
			return nil
		case e := <-s.events:
			if e.generation != 0 {
				w.seen.Store(e.generation)
			}
			decide.happened(time.Now(), e.event)
			if w.noted(e.by) && now == nil {
				for _, e := range w.look() {
					decide.happened(time.Now(), e)
				}
			}
		case <-reload:
			decide.happened(time.Now(), event{cause: causeReload})
		case o := <-ended:
			decide.ended(time.Now(), now.job, o)
			now = nil
			if w.fatal != nil {
				return w.fatal
			}
			w.fights(decide)
			if now := w.every(); now != every {
				every = now
				ticks.Reset(every)
			}
		case <-ticks.C:
			if now == nil {
				for _, e := range w.poll() {
					decide.happened(time.Now(), e)
				}
			}
		case <-watchdog:
			if now == nil || time.Since(now.since) < jobTime+10*time.Second {
				d.Notify.tell("WATCHDOG=1")
			}
		case <-timer.C:
		}
	}
}

// hopeless says whether trying again at the start can help.
func hopeless(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, backend.ErrNotSupported) || errors.Is(err, backend.ErrOwned) || errors.Is(err, errors.ErrUnsupported)
}
