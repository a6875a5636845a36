package nftrace

import (
	"errors"
	"fmt"
	"os"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Tracer has packets traced until it is closed.
type Tracer struct {
	// Events are what the kernel tells. It is closed when no more is told: after
	// Close, or where Err says why.
	Events <-chan Event

	owner    *nfnetlink.Conn
	listener *nfnetlink.Listener
	table    string
	stop     chan struct{}
	done     chan struct{} // closed when nobody listens any more
	err      error
}

const (
	tableOwner = 1 << 1 // NFT_TABLE_F_OWNER
	// early is behind what puts fragments together (NF_IP_PRI_CONNTRACK_DEFRAG),
	// so that ports are there to be looked at, and before all else.
	early = -399
	// eventsBuffer is the room for events, as the kernel counts it.
	eventsBuffer = 8 << 20
)

// Start has packets traced in the network namespace of the calling thread. It
// needs CAP_NET_ADMIN there.
func Start(p Packets) (*Tracer, error) {
	t := &Tracer{table: fmt.Sprint(Table, os.Getpid()), stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	if t.listener, err = nfnetlink.Listen(eventsBuffer, unix.NFNLGRP_NFTRACE); err != nil {
		return nil, unsupported(err)
	}
	if t.owner, err = nfnetlink.Dial(); err == nil {
		if _, err = t.owner.Commit(t.rules(p), 0); err == nil {
			events := make(chan Event, 256)
			t.Events = events
			go t.listen(events)
			return t, nil
		}
		if _, none := t.owner.Generation(); none != nil && unsupported(none) != none {
			err = fmt.Errorf("%w: nftables (CONFIG_NF_TABLES), by which packets are traced: %w", ErrNotSupported, none)
			return nil, errors.Join(err, t.owner.Close(), t.listener.Close())
		}
		err = errors.Join(err, t.owner.Close())
	}
	_ = t.listener.Close()
	return nil, fmt.Errorf("make the table inet %s, by which packets are traced: %w", t.table, unsupported(err))
}

// unsupported tells a kernel that cannot do it from one that does not want to.
func unsupported(err error) error {
	for _, no := range []error{unix.EOPNOTSUPP, unix.EINVAL, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w (a table that belongs to a socket needs Linux 5.12): %w", ErrNotSupported, err)
		}
	}
	return err
}

// Close ends the tracing.
func (t *Tracer) Close() error {
	err := t.owner.Close() // and with it the table goes
	close(t.stop)
	t.listener.Wake()
	<-t.done
	return errors.Join(err, t.listener.Close())
}

// Err says why Events was closed before Close.
func (t *Tracer) Err() error {
	<-t.done
	return t.err
}

// TableName is the name of the tracer's table, which is of the family inet.
func (t *Tracer) TableName() string { return t.table }

func (t *Tracer) listen(events chan<- Event) {
	defer close(t.done)
	defer close(events)
	buf := make([]byte, 64<<10)
	for {
		n, err := t.listener.Receive(buf)
		switch {
		case errors.Is(err, nfnetlink.ErrNothing):
			err = t.listener.Wait()
		case errors.Is(err, nfnetlink.ErrOverrun):
			err = t.hand(events, Event{Lost: true})
		case err == nil:
			err = nfnetlink.EachMessage(buf[:min(n, len(buf))], func(m nfnetlink.Message) error {
				if e, ok := parse(m); ok && e.Table != t.table {
					return t.hand(events, e)
				}
				return nil
			})
		}
		select {
		case <-t.stop:
			return
		default:
		}
		if err != nil {
			t.err = err
			return
		}
	}
}

var errStopped = errors.New("stopped")

func (t *Tracer) hand(events chan<- Event, e Event) error {
	select {
	case events <- e:
		return nil
	case <-t.stop:
		return errStopped
	}
}
