package iptables

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
)

// byElement is how many elements of a set may come and go one by one: what fits
// in a message of each kind, which the kernel carries out at once. With more the
// whole set is made anew beside it and takes its place.
const byElement = 2000

// setWork is a commit's way through the sets. New ones are there and full before
// the rules that ask for them, and old ones go after the rules that did.
type setWork struct {
	c       *setConn
	changes *plan.Changes
	swaps   map[int]string  // of changes, the set that takes the place
	made    map[string]bool // sets that were not there
	done    []int           // changes that were carried out
}

// prepareSets makes and fills what is not asked for yet.
func (b *Backend) prepareSets(changes *plan.Changes) (*setWork, error) {
	w := &setWork{changes: changes, swaps: map[int]string{}, made: map[string]bool{}}
	if len(changes.Sets) == 0 {
		return w, nil
	}
	var err error
	if w.c, err = b.dialSets(); err != nil {
		return nil, err
	}
	for i, c := range changes.Sets {
		if c.Kind == plan.Remove {
			continue
		}
		to := changes.To.Sets[c.To]
		name := to.Name
		if c.Kind != plan.Add {
			if added, removed := w.difference(i); c.Kind == plan.Keep && len(added)+len(removed) <= byElement {
				continue
			}
			h := fnv.New64a()
			h.Write([]byte(name))
			name = fmt.Sprintf("%s~%016x", setPrefix, h.Sum64())
			w.swaps[i] = name
			_ = w.c.named(setDestroy, name, "") // left over by one that died
		}
		if err = w.c.create(name, to.Attributes, to.Elements.Len()); err == nil {
			w.made[name] = true
			err = w.c.change(setAdd, name, &to.Elements, slices.Values(indices(to.Elements.Len())))
		}
		if err != nil {
			_ = w.goBack() // what it could not take away, the next commit does
			return nil, &backend.Refused{Object: "the set " + to.Name, Origin: to.Origin, Err: err}
		}
	}
	return w, nil
}

// difference gives the elements that a change adds and removes.
func (w *setWork) difference(i int) (added, removed []uint32) {
	return setDifference(w.changes, w.changes.Sets[i])
}

// carryOut changes the sets that are there before and after.
func (w *setWork) carryOut() error {
	for i, c := range w.changes.Sets {
		if c.Kind == plan.Add || c.Kind == plan.Remove {
			continue
		}
		err := w.turn(i, false)
		if err == nil || w.swaps[i] == "" { // of elements, some may have come
			w.done = append(w.done, i)
		}
		if err != nil {
			to := w.changes.To.Sets[c.To]
			return &backend.Refused{Object: "the set " + to.Name, Origin: to.Origin, Err: err}
		}
	}
	return nil
}

// turn carries a change out, or the other way. What comes is there before what
// goes: a prefix may become its halves.
func (w *setWork) turn(i int, back bool) error {
	c := w.changes.Sets[i]
	from, to := w.changes.From.Sets[c.From], w.changes.To.Sets[c.To]
	if other := w.swaps[i]; other != "" {
		return w.c.named(setSwap, to.Name, other)
	}
	added, removed := w.difference(i)
	if back {
		from, to, added, removed = to, from, removed, added
	}
	if err := w.c.change(setAdd, to.Name, &to.Elements, each(added)); err != nil {
		return err
	}
	return w.c.change(setDel, to.Name, &from.Elements, each(removed))
}

func each(list []uint32) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, i := range list {
			if !yield(int(i)) {
				return
			}
		}
	}
}

// finish takes away what no rule asks for any more.
func (w *setWork) finish() error {
	if w.c == nil {
		return nil
	}
	defer w.c.Close()
	for _, name := range w.swaps {
		if err := w.destroy(name); err != nil {
			return fmt.Errorf("take away what was in a set before: %w", err)
		}
	}
	for _, c := range w.changes.Sets {
		if c.Kind != plan.Remove {
			continue
		}
		from := w.changes.From.Sets[c.From]
		if err := w.destroy(from.Name); err != nil {
			return &backend.Refused{Object: "to take away the set " + from.Name, Origin: from.Origin, Err: err}
		}
	}
	return nil
}

// goBack undoes all, once no rule asks for what was made.
func (w *setWork) goBack() error {
	if w.c == nil {
		return nil
	}
	defer w.c.Close()
	var errs []error
	for _, i := range slices.Backward(w.done) {
		errs = append(errs, w.turn(i, true))
	}
	for name := range w.made {
		errs = append(errs, w.destroy(name))
	}
	return errors.Join(errs...)
}

// destroy takes a set away. The kernel frees the rules that asked for it a
// moment after they are gone.
func (w *setWork) destroy(name string) error {
	const busy, patience, pause = syscall.Errno(4100), 2 * time.Second, 2 * time.Millisecond
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		err := w.c.named(setDestroy, name, "")
		if errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if !errors.Is(err, busy) || time.Now().After(end) {
			return err
		}
	}
}
