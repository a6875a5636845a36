//go:build linux

package nftables

import (
	"errors"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Watch is told what is committed in a namespace, and by whom. Next is for one
// goroutine; the other methods may be called beside it.
//
// A commit takes the kernel a third longer when somebody listens, so one who
// commits himself stops listening meanwhile, see Pause. Others pay only for
// what they commit.
type Watch struct {
	listener *nfnetlink.Listener
	buf      []byte
	queue    []backend.Foreign
	now      backend.Foreign // the transaction that is being told
}

// watchBuffer holds what the kernel tells of some 40,000 elements at once. What
// does not fit is reported as a change that may have been of our table.
const watchBuffer = 4 << 20

// Watch begins to listen.
func (b *Backend) Watch() (*Watch, error) {
	w := &Watch{buf: make([]byte, 128<<10)}
	err := b.enter(func() (err error) {
		w.listener, err = nfnetlink.Listen(watchBuffer, unix.NFNLGRP_NFTABLES)
		return unsupported(err)
	})
	return w, err
}

// Pause stops listening, and Resume goes on. What was told before is still to
// come; what happens between is not.
func (w *Watch) Pause() error { return w.listener.Leave(unix.NFNLGRP_NFTABLES) }

// Resume listens again.
func (w *Watch) Resume() error { return w.listener.Join(unix.NFNLGRP_NFTABLES) }

// Stop ends the Next that waits, and all that come after, with
// backend.ErrStopped.
func (w *Watch) Stop() { w.listener.Wake() }

// Close closes the socket, when no Next runs any more.
func (w *Watch) Close() error { return w.listener.Close() }

// Next waits for the next transaction.
func (w *Watch) Next() (backend.Foreign, error) {
	for len(w.queue) == 0 {
		n, err := w.listener.Receive(w.buf)
		switch {
		case errors.Is(err, nfnetlink.ErrNothing):
			if err := w.listener.Wait(); err != nil {
				return backend.Foreign{}, err
			}
			if n, err = w.listener.Receive(w.buf); errors.Is(err, nfnetlink.ErrNothing) {
				return backend.Foreign{}, backend.ErrStopped
			}
		}
		switch {
		case errors.Is(err, nfnetlink.ErrOverrun):
			w.now = backend.Foreign{}
			return backend.Foreign{Ours: true}, nil
		case err != nil:
			return backend.Foreign{}, err
		}
		w.take(w.buf[:n])
	}
	f := w.queue[0]
	w.queue = w.queue[1:]
	return f, nil
}

// take reads what the kernel has told. A message that is cut, or not
// understood, may be about our table.
func (w *Watch) take(p []byte) {
	err := nfnetlink.EachMessage(p, func(m nfnetlink.Message) error {
		switch m.Type {
		case nfnetlink.Nftables(unix.NFT_MSG_NEWGEN):
			for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
				switch a.Type() {
				case unix.NFTA_GEN_ID:
					w.now.Generation = a.Uint32()
				case unix.NFTA_GEN_PROC_PID:
					w.now.PID = a.Uint32()
				case unix.NFTA_GEN_PROC_NAME:
					w.now.Process = a.String()
				}
			}
			w.queue, w.now = append(w.queue, w.now), backend.Foreign{}
		default:
			w.about(m)
		}
		return nil
	})
	if err != nil {
		w.now.Ours = true
	}
}

// about looks whether a message is about our table, which is the first
// attribute of all of them.
func (w *Watch) about(m nfnetlink.Message) {
	if m.Family() != unix.NFPROTO_INET {
		return
	}
	a := nfnetlink.Attributes(m.Attributes())
	if !a.Next() || a.Type() != unix.NFTA_TABLE_NAME {
		w.now.Ours = true
		return
	}
	if a.String() != Table {
		return
	}
	w.now.Ours = true
	switch m.Type {
	case nfnetlink.Nftables(unix.NFT_MSG_DELTABLE):
		w.now.Gone = true
	case nfnetlink.Nftables(unix.NFT_MSG_NEWTABLE):
		w.now.Gone = false
	}
}
