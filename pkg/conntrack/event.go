package conntrack

import "time"

// StatusDying is set in a connection that has ended and is about to be taken
// out of the table.
const StatusDying Status = 1 << 9

// EventKind is what an event tells.
type EventKind uint8

// The kinds of event.
const (
	EventNew     EventKind = iota // a connection began
	EventUpdate                   // its state, status or mark has changed
	EventDestroy                  // it ended
	EventOpen                     // it was open when the watch began
	EventLost                     // the kernel told more than was taken: see Gap
	EventResync                   // the gaps before have been made good: see Resync
	EventBegin                    // the table was read, and from now on nothing is missed: see Open
)

// Event is something that happened to a connection, or to the watch itself. Of
// a new connection the kernel tells no counters, of one that ended no timeout.
type Event struct {
	Kind EventKind
	// Time is when it was received. Where a comparison with the kernel's table
	// found it, that was then; when it happened is not known.
	Time time.Time
	// Compared says that the kernel's message was lost, or that there was none:
	// a comparison with the table found the connection new, or gone. Of one that
	// is gone only Family, Protocol, the tuples, Zone, ID, and whether it was
	// translated are known.
	Compared bool
	// Began is when the connection began, as far as it is known: by the kernel's
	// clock if it keeps times, else when the watch was told of it.
	Began time.Time
	// Label is the caller's to set in an event of a connection that began or is
	// open; the later events of the connection have it then.
	Label uint16

	Flow   Flow
	Gap    Gap    // of EventLost
	Resync Resync // of EventResync
	Open   int    // of EventBegin: how many connections are open
}

// Gap is a time in which messages of the kernel were lost.
type Gap struct {
	// Messages is how many, by the kernel's count. It is 0 where the kernel could
	// not make the message for lack of memory, which it does not count.
	Messages uint64
	// From is when surely none had been lost yet; from To on none was.
	From, To time.Time
}

// Resync is what a comparison of the kernel's table with what the watch knew
// has found. A connection that both began and ended in a gap is in neither.
type Resync struct {
	Messages     uint64 // lost in all gaps since the comparison before
	From, To     time.Time
	Began, Ended int // connections of which the message was lost
	Took         time.Duration
}
