package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Watch is told what happens to the connections of a network namespace, and
// knows which of them are open.
//
// The kernel tells through a socket whose buffer may overflow. Then the watch
// says how many messages were lost, compares what it knows with the kernel's
// table, and tells what began and ended meanwhile; see synchronize.
type Watch struct {
	options  ListenOptions
	listener *nfnetlink.Listener
	conn     *Conn // for listings
	since    time.Time
	tracker  *tracker // of Run
}

// Listen begins to watch the network namespace of the calling thread. What
// happens from then on is told by Run.
func Listen(o ListenOptions) (*Watch, error) {
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Sweep == 0 {
		o.Sweep = DefaultSweep
	}
	w := &Watch{options: o}
	if err := w.listen(); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch connections: %w", explain(err))
	}
	return w, nil
}

func (w *Watch) listen() error {
	// The folder is that of the namespace the thread is in.
	events, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_events")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if strings.TrimSpace(string(events)) == "0" {
		return ErrNoEvents
	}
	groups := []int{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY}
	if w.options.Updates {
		groups = append(groups, unix.NFNLGRP_CONNTRACK_UPDATE)
	}
	if w.conn, err = Open(); err != nil {
		return err
	}
	w.since = now()
	w.listener, err = nfnetlink.Listen(w.options.Buffer, groups...)
	return err
}

// Close ends the watch. Run must have returned.
func (w *Watch) Close() error {
	var errs []error
	if w.listener != nil {
		errs = append(errs, w.listener.Close())
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	return errors.Join(errs...)
}

// Buffer is how many bytes the kernel keeps for the watch, which may be less
// than was asked for.
func (w *Watch) Buffer() int { return w.listener.Buffer() }

// Port is the netlink port of the watch's socket, as in /proc/net/netlink.
func (w *Watch) Port() uint32 { return w.listener.Port() }

// Lost is how many messages the kernel has counted as lost so far. All of them
// have been told of, or will be, in an EventLost.
func (w *Watch) Lost() (uint32, error) { return w.listener.Lost() }

// Run tells what happens until the context ends, which is no error, or event
// gives one. The Event is valid during the call only. Idle, if it is not nil,
// is called whenever there is nothing to tell for the moment. A Watch runs once.
func (w *Watch) Run(ctx context.Context, event func(*Event) error, idle func() error) error {
	r := newReceiver(w.listener, w.options.Queue, w.since)
	go r.run()
	t := &tracker{Watch: w, ctx: ctx, in: r, yield: event, idle: idle, known: newKnown()}
	w.tracker = t
	err := t.run()
	r.stop()
	if err == nil || errors.Is(err, errStopped) {
		err = t.last()
	}
	if err != nil && !errors.Is(err, errStopped) {
		return fmt.Errorf("watch connections: %w", explain(err))
	}
	return nil
}

// errStopped ends what goes on when the context has ended.
var errStopped = errors.New("the watch was stopped")

// now is the time as events have it.
func now() time.Time { return time.Now().UTC() }
