package conntrack

import (
	"errors"
	"time"
)

// ListenOptions say what a watch tells.
type ListenOptions struct {
	// Updates has it tell of changes of state, status and mark.
	Updates bool
	// Existing has it tell first, as EventOpen, of the connections that are open.
	Existing bool
	// Buffer is how many bytes the kernel may keep for it, as the kernel counts
	// them; 0 is DefaultBuffer.
	Buffer int
	// Queue is how many bytes it keeps itself of what it has received and not
	// worked on; 0 is DefaultQueue.
	Queue int
	// Sweep is how often the table is listed to find the end of connections that
	// are open already, as long as there are any. The kernel does not tell it of
	// those that began while nobody listened, unless nf_conntrack_events is 1; by
	// default it is 2. 0 is DefaultSweep. It is stretched so that it never takes
	// more than a hundredth of the time.
	Sweep time.Duration
}

// What a watch has where the options do not say.
const (
	DefaultBuffer = 64 << 20
	DefaultQueue  = 16 << 20
	DefaultSweep  = 30 * time.Second
)

// ErrNoEvents says that the kernel is told to tell nothing.
var ErrNoEvents = errors.New("the kernel tells nothing of connections: the sysctl net.netfilter.nf_conntrack_events is 0")
