package conntrack

// synchronize makes what is known the same as the kernel's table: first when
// the watch begins, later when messages were lost. It tells what it finds.
//
// The watch goes on meanwhile: what the kernel tells is handled between the
// entries of the listing. The two come through different sockets, and the
// listing is no snapshot, so an entry and the messages about it may be read in
// any order. That no connection is doubled, and none lost, rests on this:
//
//  1. The kernel puts a connection into the table before it tells that it
//     began, and tells that it ended before it takes it out
//     (__nf_conntrack_confirm, then nf_ct_deliver_cached_events;
//     nf_ct_delete). It marks it as dying before it tells the end.
//  2. The groups were joined, or the gap was over, before the listing began.
//     So whatever changes after an entry was listed, or passed over, is told,
//     or lost in a gap that is noticed: then there is another synchronize.
//
// A connection that somebody's packet had begun before the groups were joined,
// and that entered the table after its place was listed, is told of by nobody.
// That is why a watch compares again some time after it began.
//
// An entry in the listing that is known is seen. One that is marked as dying is
// about to be told of as ended; it counts as seen if it is known, and is none
// of ours otherwise.
//
// An entry in the listing that is not known began in the gap, or it began later
// and the message is yet to be read, or it has ended and that message was read
// before the entry. To tell the last case apart, what ends while the table is
// listed stays known as dead, and an entry that is dead is passed over. In the
// other two it is told as begun, at once. If the message that it began is yet
// to be read, it finds the record fresh, and is not told again.
//
// What is known and was not seen has ended: by 1, every connection that was in
// the table all the time was listed. The message of its end may be yet to be
// read. So the kernel is asked for a mark first, through the socket of the
// messages: by 1, what a listing does not find was told as ended before, and
// so before the mark. When the mark has been read, what is still known and
// unseen are those whose message was lost, and these are told as gone. What
// begins while the table is listed is seen from the start.
//
// Two things can not be told apart. A connection that ended in a gap, and one
// after it with the same tuples in both directions in the same place of the
// kernel's memory, are one. And while somebody changes the size of the kernel's
// hash table, entries move, and the listing may miss some: these would be told
// as gone, and as begun by the next comparison: whenever anything was told as
// gone there is another one, without haste.
func (t *tracker) synchronize(first bool) error {
	began := now()
	resync, lost := t.gaps, t.missed
	t.gaps, t.missed, t.again = Resync{}, false, first
	t.round ^= recordSeen
	t.listing = true
	if err := t.list(first); err != nil {
		return err
	}
	t.listing = false
	if err := t.awaitMark(); err != nil {
		return err
	}
	if err := t.sweep(); err != nil {
		return err
	}
	t.finished = now()
	t.took = t.finished.Sub(began)
	t.again = t.again || t.gaps.Ended > 0
	resync.Began, resync.Ended = resync.Began+t.gaps.Began, resync.Ended+t.gaps.Ended
	t.gaps.Began, t.gaps.Ended = 0, 0
	if first {
		t.event = Event{Kind: EventBegin, Time: t.finished, Open: t.known.len()}
		if err := t.yield(&t.event); err != nil {
			return err
		}
	}
	if !lost {
		return nil
	}
	resync.Took = t.took
	t.event = Event{Kind: EventResync, Time: t.finished, Resync: resync}
	return t.yield(&t.event)
}

// list reads the table.
func (t *tracker) list(first bool) error {
	var failed error
	n := 0
	err := t.conn.List(&Filter{}, func(f *Flow) bool {
		failed = t.listed(f, first)
		if n++; failed == nil && n%64 == 0 {
			failed = t.pending()
		}
		if failed == nil && t.ctx.Err() != nil {
			failed = errStopped
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// listed takes note of an entry of the table.
func (t *tracker) listed(f *Flow, first bool) error {
	if !f.nameable() {
		return errNoFlow
	}
	r, ok := t.known.get(f)
	switch {
	case ok && r.has(recordDead):
		return nil
	case ok:
		t.again = t.again || f.Status&StatusDying != 0
		t.known.set(f, r&^recordSeen|t.round)
		return nil
	case f.Status&StatusDying != 0:
		return nil
	}
	e := &t.event
	*e = Event{Kind: EventNew, Time: now(), Compared: true, Began: f.Start, Flow: *f}
	bits := recordTold | recordFresh | recordListed
	switch {
	case !first:
		t.gaps.Began++
	case t.options.Existing:
		e.Kind, e.Compared = EventOpen, false
	default:
		bits &^= recordTold
	}
	return t.begin(bits)
}

// awaitMark handles all that the kernel has told so far.
func (t *tracker) awaitMark() error {
	if err := t.mark(); err != nil {
		return err
	}
	for t.marked != 0 {
		if err := t.rest(); err != nil {
			return err
		}
		select {
		case p := <-t.in.queue:
			if err := t.handle(p); err != nil {
				return err
			}
		case <-t.ctx.Done():
			return errStopped
		}
	}
	return nil
}

// sweep tells what is known and was not seen as gone, and forgets what is dead.
func (t *tracker) sweep() error {
	n := 0
	return t.known.each(func(f *Flow, r record) error {
		if n++; n%1024 == 0 {
			if err := t.pending(); err != nil {
				return err
			}
			present, ok := t.known.get(f)
			if !ok {
				return nil // it has ended just now
			}
			r = present
		}
		switch {
		case r.has(recordDead):
			t.known.remove(f)
		case r&recordSeen != t.round:
			t.end(f, r, true)
			return t.gone(*f, r, now())
		case r.has(recordFresh):
			t.known.set(f, r&^recordFresh)
		}
		if n%1024 == 0 && t.ctx.Err() != nil {
			return errStopped
		}
		return nil
	})
}
