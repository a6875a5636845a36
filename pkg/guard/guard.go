// Package guard is the process that goes back from a policy which nobody
// confirms, and how it is started so that nothing which stops the command that
// applied the policy stops it too: a closed terminal, a killed session, a killed
// parent.
//
// Where systemd runs the machine the guard is a transient service, which systemd
// starts again when it is killed. Elsewhere it is two processes, each in a
// session of its own, that know each other by pidfd: when one is killed the
// other starts a new one. Both hold the network namespace and the state folder
// open, whose paths may vanish.
//
// The state folder says what is guarded. A guard acts only while the ID there is
// the one that it was started for, and ends as soon as it is not.
package guard

import (
	"context"
	"errors"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

// Command is the command of the program that runs a guard.
const Command = "guard"

// lockTime bounds the wait for a command that has the lock.
const lockTime = 2 * time.Minute

// Guard waits for one policy's deadline.
type Guard struct {
	Engine *engine.Engine
	ID     string
	// Apply is closed when the process that applies the policy has ended. The
	// state names the ID from some time before that on, or never.
	Apply <-chan struct{}
	// Ready is told once that the guard stands.
	Ready func() error
	// Respawn starts another guard, and gives what is closed when that ends. Nil:
	// it is alone.
	Respawn func() (ended <-chan struct{}, err error)
	// Other is closed when the other guard ends.
	Other <-chan struct{}
	// Log is told what happens, a line each.
	Log func(text string)
}

// Run guards until there is nothing to guard any more.
func (g *Guard) Run(ctx context.Context) error {
	release, err := g.Engine.State.Guard()
	if err != nil {
		return err
	}
	defer release()
	changes, stop, err := g.Engine.State.Watch()
	if err != nil {
		return err
	}
	defer stop()
	if g.Respawn != nil && g.Other == nil {
		if g.Other, err = g.Respawn(); err != nil {
			return err
		}
	}
	if err := g.Ready(); err != nil {
		return err
	}
	var respawn, again <-chan time.Time
	apply, seen, tries := g.Apply, false, 0
	for {
		u, err := g.Engine.Unconfirmed()
		look := longest
		switch {
		case err != nil: // what cannot be read now may be later
		case u == nil || u.ID != g.ID:
			if seen || apply == nil {
				return nil
			}
		case u.Left > 0:
			seen, look = true, min(u.Left, longest)
		case again == nil:
			if done := g.expire(ctx); done {
				return nil
			}
			seen, tries = true, tries+1
			again = time.After(min(time.Duration(tries)*time.Second, 10*time.Second))
		}
		if changes == nil { // there is no other way to see that it was confirmed
			look = min(look, 250*time.Millisecond)
		}
		timer := time.NewTimer(look)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-changes:
			if !open {
				changes = nil
			}
		case <-apply:
			apply = nil
		case <-g.Other:
			g.Other, respawn = nil, time.After(0)
		case <-respawn:
			respawn = nil
			if u != nil && u.ID != g.ID { // it ended because there is nothing to guard
				continue
			}
			if g.Other, err = g.Respawn(); err != nil {
				g.Log("the other guard ended, and no new one could be started: " + err.Error())
				respawn = time.After(time.Second)
			}
		case <-again:
			again = nil
		case <-timer.C:
		}
		timer.Stop()
	}
}

// longest is how long a guard sleeps at once: its timers stand still while the
// machine sleeps, and the deadline does not.
const longest = 20 * time.Second

// expire goes back, if it is time. It says whether there is nothing left to do.
func (g *Guard) expire(ctx context.Context) (done bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTime, errors.New("another ipmasq does not end"))
	defer cancel()
	_, r, err := g.Engine.Expire(ctx, g.ID)
	switch {
	case errors.Is(err, engine.ErrNothingUnconfirmed):
		return true
	case err != nil:
		g.Log("the policy was not confirmed in time, and going back failed; it stays in force, and going back is tried again: " + err.Error())
		return false
	case r == nil: // the apply has come to its end only now, and the time begins
		return false
	case r.Unsaved != nil:
		g.Log("the policy was not confirmed in time, and the one before is in force again; this could not be written down, and is tried again: " + r.Unsaved.Error())
		return false
	}
	to := "nothing is in force now, as before"
	if r.To != nil {
		to = "the policy before (" + r.To.Digest[:12] + ") is in force again"
	}
	g.Log("the policy " + r.From.Digest[:12] + " was not confirmed in time: " + to)
	for _, w := range r.Warnings {
		g.Log("warning: " + w)
	}
	return true
}
