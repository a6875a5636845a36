package sysctl

import (
	"errors"
	"fmt"
)

// Apply writes changes in order and reads each one back. Done is what has to
// be remembered for [Restore], also when err is not nil: Before is what the
// sysctl held just now, whatever the plan said, and one that somebody else has
// set to After meanwhile is not in it, for it is not ours to put back.
func Apply(changes []Change) (done []Change, err error) {
	for _, change := range changes {
		if !change.Writes() {
			done = append(done, change)
			continue
		}
		now, err := Get(change.Name)
		if err != nil {
			return done, err
		}
		if now == tidy(change.After) {
			continue
		}
		change.Before = now
		if err := Set(change.Name, change.After); err != nil {
			return done, err
		}
		got, err := Get(change.Name)
		if err != nil {
			return append(done, change), fmt.Errorf("verify: %w", err)
		}
		if want := tidy(change.After); got != want {
			change.After = got
			if change.Writes() {
				done = append(done, change)
			}
			return done, fmt.Errorf("verify sysctl %s: wrote %q, reads %q", change.Name, want, got)
		}
		done = append(done, change)
	}
	return done, nil
}

// Restore undoes what [Apply] did, in reverse order. A sysctl that holds
// neither its After nor its Before has been changed by somebody else: it is
// kept, value and all, also against the side effects of what is put back. One
// that has vanished with its interface is in neither list. Nothing after the
// first failure is touched, since the order carries meaning: accept_ra must
// not go back while IPv6 forwarding stays on.
func Restore(remembered []Change) (restored, kept []Change, err error) {
	// Read all before writing any: turning forwarding off changes the others.
	found := make(map[string]string, len(remembered))
	for _, change := range remembered {
		value, err := Get(change.Name)
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		found[change.Name] = value
	}
	ours := make(map[string]bool, len(remembered))
	for _, change := range remembered {
		value, there := found[change.Name]
		ours[change.Name] = there && change.Ours(value)
	}
	for i := len(remembered) - 1; i >= 0; i-- {
		change := remembered[i]
		_, there := found[change.Name]
		switch {
		case !there:
			continue
		case !ours[change.Name]:
			kept = append(kept, change)
			continue
		}
		if err := putBack(change, ours); err != nil {
			if errors.Is(err, ErrAbsent) {
				continue
			}
			return restored, kept, err
		}
		restored = append(restored, change)
	}
	return restored, kept, nil
}

// putBack writes one Before. Where the kernel overwrites others with it, those
// that are neither ours (their turn comes) nor what our own switching on made
// them get their value back at once.
func putBack(change Change, ours map[string]bool) error {
	now, err := Get(change.Name)
	if err != nil {
		return err
	}
	if now == tidy(change.Before) {
		return nil
	}
	effects, err := sideEffects(change.Name)
	if err != nil {
		return err
	}
	if err := Set(change.Name, change.Before); err != nil {
		return err
	}
	got, err := Get(change.Name)
	if err != nil {
		return err
	}
	if want := tidy(change.Before); got != want {
		return fmt.Errorf("verify sysctl %s: wrote %q, reads %q", change.Name, want, got)
	}
	for _, e := range effects {
		if ours[e.name] || e.now == e.on {
			continue
		}
		now, err := Get(e.name)
		if errors.Is(err, ErrAbsent) || err == nil && now == e.now {
			continue
		}
		if err == nil {
			err = Set(e.name, e.now)
		}
		if err != nil && !errors.Is(err, ErrAbsent) {
			return err
		}
	}
	return nil
}
