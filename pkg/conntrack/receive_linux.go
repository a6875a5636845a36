package conntrack

import (
	"errors"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
)

const (
	// parcelSize is how much is received before it is handed on, at most.
	parcelSize = 64 << 10
	// parcelRoom is what the largest message needs. Those of conntrack have some
	// 250 bytes, and a few hundred more with labels and a security context.
	parcelRoom = 8 << 10
	// smallestMessage is less than what the kernel counts for any message.
	smallestMessage = 256
)

// parcel is what was received in one go, or what befell the receiving.
type parcel struct {
	messages []byte
	at       time.Time // the first was received
	gap      *Gap      // messages were lost; those of the parcels before are older
	err      error     // there will be no more
}

// receiver empties the socket as fast as it can, so that working on what was
// received, or writing it to a slow disk, costs no messages. It keeps no more
// than its queue. When that is full it waits, the kernel's buffer fills, and
// what no longer fits there is lost and told of.
type receiver struct {
	listener *nfnetlink.Listener
	queue    chan parcel
	free     chan []byte // to be used again
	made     int         // buffers, of cap(free) at most
	ending   chan struct{}
	done     chan struct{}

	buf     []byte
	at      time.Time // the first message of buf was received
	counted uint32    // of the kernel's count of losses, what has been told
	sure    time.Time // nothing more had been lost then
	gap     bool      // messages were lost, and more may be
	older   int       // how many messages may be received yet that are older than the gap
}

// newReceiver receives what a socket is told that was opened after a time.
func newReceiver(l *nfnetlink.Listener, queue int, since time.Time) *receiver {
	n := max(queue/parcelSize, 4)
	return &receiver{listener: l, queue: make(chan parcel, 2*n), free: make(chan []byte, n),
		ending: make(chan struct{}), done: make(chan struct{}), sure: since}
}

// stop ends the receiving. What is queued stays there.
func (r *receiver) stop() {
	close(r.ending)
	r.listener.Wake()
	<-r.done
}

// release gives back a parcel's memory.
func (r *receiver) release(p parcel) {
	if p.messages != nil {
		r.free <- p.messages[:0]
	}
}

func (r *receiver) run() {
	defer close(r.done)
	defer close(r.queue)
	err := r.receive()
	if err != nil && !errors.Is(err, errStopped) {
		_ = r.send(parcel{err: err}) // or nobody wants to know
	}
}

// send hands a parcel on, or says that nobody wants it.
func (r *receiver) send(p parcel) error {
	select {
	case r.queue <- p:
		return nil
	default:
	}
	select {
	case r.queue <- p:
		return nil
	case <-r.ending:
		return errStopped
	}
}

// buffer gives memory to receive into, and waits for it.
func (r *receiver) buffer() error {
	if r.buf != nil {
		return nil
	}
	select {
	case r.buf = <-r.free:
		return nil
	default:
	}
	if r.made < cap(r.free) {
		r.made++
		r.buf = make([]byte, 0, parcelSize)
		return nil
	}
	select {
	case r.buf = <-r.free:
		return nil
	case <-r.ending:
		return errStopped
	}
}

func (r *receiver) receive() error {
	for {
		if err := r.buffer(); err != nil {
			return err
		}
		before := now()
		n, err := r.listener.Receive(r.buf[len(r.buf) : len(r.buf)+parcelRoom])
		switch {
		case err == nil:
			if len(r.buf) == 0 {
				r.at, r.sure = before, r.surely(before)
			}
			r.buf = r.buf[:len(r.buf)+n]
			r.older--
			if cap(r.buf)-len(r.buf) < parcelRoom {
				err = r.handOn(false)
			}
		case errors.Is(err, nfnetlink.ErrNothing):
			r.sure = r.surely(before)
			if err = r.handOn(true); err == nil && !r.gap {
				err = r.wait()
			}
		case errors.Is(err, nfnetlink.ErrOverrun):
			r.gap, r.older, err = true, r.listener.Buffer()/smallestMessage, nil
		}
		if err != nil {
			return err
		}
	}
}

// surely is the time until which nothing more was lost, if nothing was at t.
func (r *receiver) surely(t time.Time) time.Time {
	if r.gap {
		return r.sure
	}
	return t
}

func (r *receiver) wait() error {
	select {
	case <-r.ending:
		return errStopped
	default:
		return r.listener.Wait()
	}
}

// handOn hands on what has been received and, behind it, a gap that has ended.
//
// From the first message that is lost on, the kernel loses all of them until
// the buffer is empty (netlink_broadcast_deliver, netlink_rcv_wake). So what
// the buffer holds then is older than the gap, what comes later is newer, and
// the gap has ended once the buffer was found empty; or, where so much is told
// that it never is, once as many messages were received as it may have held.
func (r *receiver) handOn(empty bool) error {
	if len(r.buf) > 0 {
		if err := r.send(parcel{messages: r.buf, at: r.at}); err != nil {
			return err
		}
		r.buf = nil
	}
	if r.gap && (empty || r.older <= 0) {
		if err := r.endGap(); err != nil {
			return err
		}
	}
	select {
	case <-r.ending:
		return errStopped
	default:
		return nil
	}
}

func (r *receiver) endGap() error {
	lost, err := r.listener.Lost()
	if err != nil {
		return err
	}
	// Another gap may have begun since; what it has lost may be counted already.
	// Then the two are one.
	if r.listener.Overrun() {
		return nil
	}
	g := &Gap{Messages: uint64(lost - r.counted), From: r.sure, To: now()}
	r.gap, r.counted = false, lost
	return r.send(parcel{gap: g, at: g.To})
}
