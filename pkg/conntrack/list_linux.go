package conntrack

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
)

// worthFiltering is the size from which on reading the table twice, filtered
// by the kernel, is cheaper than once as a whole: an entry costs 1.4 us to
// read, and a walk over 262,144 hash buckets 12 ms however few they hold.
const worthFiltering = 8000

// worthHalving is the size from which on two processors are done with two
// halves, and a second walk, sooner than one with the whole.
const worthHalving = 32_000

// List hands over the connections that a filter allows, as they are read, until
// yield returns false. The Flow is valid during the call only. A table may hold
// millions; a few of them are in memory. yield may call Delete and DeleteAll,
// and no other list may be read meanwhile.
//
// What the kernel can leave out it does, which saves four fifths of the cost:
// status, mark, one family, one protocol, and one address of IPv4 or port. One
// that may be before or after translation takes it two walks through its table.
// Prefixes, ranges, choices and addresses of IPv6 are looked at here.
//
// A large table is read in two walks at the same time in any case, each for a
// half, so that the order is nobody's.
func (c *Conn) List(filter *Filter, yield func(*Flow) bool) error {
	entries, _, err := c.count()
	if err == nil && entries > 0 {
		asked := questions(filter, c.tuples, entries >= worthFiltering)
		if c.tuples && entries >= worthHalving && runtime.GOMAXPROCS(0) > 1 {
			asked = halves(asked)
		}
		err = c.list(asked, (*question).encode, filter, yield)
	}
	if err != nil {
		return fmt.Errorf("list connections: %w", explain(err))
	}
	return nil
}

// Translated hands over every connection whose source or destination is
// translated, until yield returns false, which may call Delete.
func (c *Conn) Translated(yield func(Flow) bool) error {
	return c.List(&Filter{Translated: true}, func(f *Flow) bool { return yield(*f) })
}

// errListing says that a list is wanted within another one.
var errListing = errors.New("another list is being read")

// list hands over what any of the questions and the filter allow. A connection
// that several questions allow comes with the first: encode may be one that
// tells the kernel less than all.
func (c *Conn) list(questions []question, encode func(*question, *nfnetlink.Encoder), filter *Filter, yield func(*Flow) bool) error {
	if c.listing {
		return errListing
	}
	c.listing = true
	defer func() { c.listing = false }()
	s := newStream()
	for i := range questions {
		q := &questions[i]
		s.receive(c.dumps[i], i, protocolFamily(q.family), func(e *nfnetlink.Encoder) { encode(q, e) })
	}
	defer s.end()
	var f Flow
	for running := len(questions); running > 0; {
		d := <-s.full
		if d.err != nil {
			return d.err
		}
		if d.messages == nil {
			running--
			continue
		}
		for rest := d.messages; len(rest) > 0; {
			var m nfnetlink.Message
			var err error
			if m, rest, err = nfnetlink.First(rest); err != nil {
				return err
			}
			if c.decoder.flow(m, &f) && first(questions, &f) == d.question && filter.Match(&f) && !yield(&f) {
				return nil
			}
		}
		s.empty <- d.messages[:0]
	}
	return nil
}

// first is the first question that allows a connection.
func first(questions []question, f *Flow) int {
	for i := range questions {
		if questions[i].allows(f) {
			return i
		}
	}
	return -1
}

// stream receives dumps while others are decoded: the kernel works in the call
// that receives.
type stream struct {
	empty chan []byte
	full  chan datagram
	stop  chan struct{}
	done  sync.WaitGroup
}

// datagram is what was received of a question at once; nothing at its end.
type datagram struct {
	question int
	messages []byte
	err      error
}

// ahead is how many datagrams there are at once, at 32 KiB.
const ahead = 8

func newStream() *stream {
	s := &stream{empty: make(chan []byte, ahead), full: make(chan datagram, ahead), stop: make(chan struct{})}
	for range ahead {
		s.empty <- make([]byte, 0, nfnetlink.DatagramSize)
	}
	return s
}

// end stops the receivers and waits for them. What they leave in a socket, its
// next dump reads.
func (s *stream) end() {
	close(s.stop)
	s.done.Wait()
}

// receive asks for a dump and receives it in the background.
func (s *stream) receive(conn *nfnetlink.Conn, question int, family uint8, attributes func(*nfnetlink.Encoder)) {
	s.done.Go(func() {
		if err := conn.Start(ctGet, family, attributes); err != nil {
			s.give(datagram{question, nil, err})
			return
		}
		for {
			var room []byte
			select {
			case room = <-s.empty:
			case <-s.stop:
				return
			}
			messages, err := conn.Receive(room[:cap(room)])
			if err == nil && len(messages) == 0 {
				messages = nil
				s.empty <- room
			}
			if !s.give(datagram{question, messages, err}) || err != nil || messages == nil {
				return
			}
		}
	})
}

func (s *stream) give(d datagram) bool {
	select {
	case s.full <- d:
		return true
	case <-s.stop:
		return false
	}
}
