//go:build linux

package nftables

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"sort"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// To dump ranges takes the square of their number: for each page of 32 KiB the
// kernel walks its tree from the start. Up to dumpedRanges that takes no longer
// than to ask for each, which costs some 7 µs of one CPU, and tells more.
const dumpedRanges = 20_000

// rangesPerSocket is for how many ranges another socket is worth its while.
const rangesPerSocket = 10_000

// endsAtOnce is how many ends of ranges one message asks for. Each answer takes
// some 1 KiB of the receive buffer, which has 416 KiB where it cannot be grown.
const endsAtOnce = 256

// errDiffers says that the kernel does not hold what it was asked for.
var errDiffers = errors.New("the kernel holds something else")

// rangesCarriedOut asks for both ends of each range that came, and around each
// that went. Where a commit leaves most of a small set to be asked for, the set
// is read whole.
func (r *reader) rangesCarriedOut(c *plan.SetChange) bool {
	to := r.after.To.Sets[c.To]
	added := c.Added
	if c.Kind != plan.Keep {
		added = all(to.Elements.Len())
	}
	if n := to.Elements.Len(); n <= dumpedRanges && 2*(len(c.Removed)+len(added)) > n+16 {
		return false
	}
	if n, told := r.counts[to.Name]; told && int(n) != countedRanges(to) {
		return false
	}
	if c.Kind == plan.Keep {
		from := r.after.From.Sets[c.From]
		err := r.sideBySide(len(c.Removed), func(part *reader, first, end int) error {
			return part.rangesGone(from, to, c.Removed[first:end])
		})
		if err != nil {
			return false
		}
	}
	return nil == r.sideBySide(len(added), func(part *reader, first, end int) error {
		return part.rangesThere(to, added[first:end])
	})
}

func all(n int) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

// countedRanges is how the kernel counts the ranges of a set (NFTA_SET_COUNT,
// since 6.16): half of all ends, and a range up to the last key has none.
func countedRanges(s *plan.Set) int {
	n := s.Elements.Len()
	if n > 0 {
		if _, high := bounds(s, n-1); isLast(high) {
			return (2*n - 1) / 2
		}
	}
	return n
}

// bounds gives the first and last key of a range.
func bounds(s *plan.Set, i int) (low, high []byte) {
	key := s.Elements.KeyAt(i)
	return key[:len(key)/2], key[len(key)/2:]
}

func isLast(key []byte) bool { return bytes.Count(key, []byte{0xff}) == len(key) }

// sideBySide cuts a list of n into parts, each with a socket of its own.
func (r *reader) sideBySide(n int, ask func(part *reader, first, end int) error) error {
	parts := min(runtime.GOMAXPROCS(0), 1+n/rangesPerSocket)
	if parts == 1 {
		return ask(r, 0, n)
	}
	errs := make([]error, parts)
	var group sync.WaitGroup
	for i := range parts {
		group.Go(func() {
			errs[i] = r.backend.dial(func(c *nfnetlink.Conn) error {
				part := *r
				part.conn = c
				return ask(&part, i*n/parts, (i+1)*n/parts)
			})
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// rangesThere asks for ranges of a set that is wanted.
func (r *reader) rangesThere(set *plan.Set, which []uint32) error {
	a := &rangeAsk{reader: r, set: set, scratch: make([]byte, set.Elements.KeyLen/2)}
	for len(which) > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		n := min(len(which), endsAtOnce/2)
		if err := a.ask(which[:n]); err != nil {
			return err
		}
		which = which[n:]
	}
	return nil
}

// rangeAsk asks for the ends of ranges. The kernel answers with an element for
// each, in order.
type rangeAsk struct {
	*reader
	set     *plan.Set
	scratch []byte // a key
	asked   []rangeEnd
}

// rangeEnd is the start or the end of a range that was asked for.
type rangeEnd struct {
	index uint32
	end   bool
}

func (a *rangeAsk) ask(which []uint32) error {
	a.asked = a.asked[:0]
	answers := 0
	err := a.conn.Get(nfnetlink.Nftables(unix.NFT_MSG_GETSETELEM), unix.NFPROTO_INET, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, a.set.Name)
		list := e.Open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for _, i := range which {
			a.write(e, i)
		}
		e.Close(list)
	}, func(m nfnetlink.Message) error {
		for x := nfnetlink.Attributes(m.Attributes()); x.Next(); {
			if x.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for l := nfnetlink.Attributes(x.Bytes()); l.Next(); {
				if answers == len(a.asked) || !a.is(a.asked[answers], parseElement(l.Bytes())) {
					return errDiffers
				}
				answers++
			}
		}
		return nil
	})
	if err == nil && answers < len(a.asked) {
		return errDiffers
	}
	return err
}

// write asks for both ends of a range by its last key: the nearest start at or
// below it, and the nearest end above, so that the answers also say that there
// is nothing in between. At a start the kernel takes that for the end too, so
// the end of a single key is asked for by the key behind it. Where the next
// range starts right there, nothing depends on the end and it is left out.
func (a *rangeAsk) write(e *nfnetlink.Encoder, i uint32) {
	low, high := bounds(a.set, int(i))
	writeAsk(e, high, false)
	a.asked = append(a.asked, rangeEnd{i, false})
	if isLast(high) {
		return
	}
	key := high
	if bytes.Equal(low, high) {
		copy(a.scratch, high)
		increment(a.scratch)
		key = a.scratch
		if next := int(i) + 1; next < a.set.Elements.Len() {
			if start, _ := bounds(a.set, next); bytes.Equal(start, key) {
				return
			}
		}
	}
	writeAsk(e, key, true)
	a.asked = append(a.asked, rangeEnd{i, true})
}

// is says whether an element is the end of a range that was asked for.
func (a *rangeAsk) is(x rangeEnd, el element) bool {
	if el.foreign || el.high != nil || el.end != x.end {
		return false
	}
	low, high := bounds(a.set, int(x.index))
	if x.end {
		copy(a.scratch, high)
		increment(a.scratch)
		return bytes.Equal(el.key, a.scratch) && len(el.data) == 0
	}
	data := a.set.Elements.At(int(x.index))[a.set.Elements.KeyLen:]
	return bytes.Equal(el.key, low) && bytes.Equal(el.data, data) && a.of(a.set, int(x.index), el.comment)
}

// rangesGone asks for the ends of ranges that went. What covers them now came
// with the same commit and is asked for itself.
func (r *reader) rangesGone(from, to *plan.Set, which []uint32) error {
	for _, i := range which {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		low, high := bounds(from, int(i))
		for _, x := range []struct {
			key []byte
			end bool
		}{{low, false}, {high, true}} {
			if covered(to, x.key) {
				continue
			}
			_, err := r.element(to.Name, x.key, x.end)
			switch {
			case err == nil:
				return errDiffers
			case !errors.Is(err, unix.ENOENT):
				return err
			}
		}
	}
	return nil
}

// covered says whether a range of a sorted set holds a key.
func covered(s *plan.Set, key []byte) bool {
	i := sort.Search(s.Elements.Len(), func(i int) bool {
		low, _ := bounds(s, i)
		return bytes.Compare(low, key) > 0
	})
	if i == 0 {
		return false
	}
	_, high := bounds(s, i-1)
	return bytes.Compare(key, high) <= 0
}

// element asks for the element with a key; unix.ENOENT where there is none. In
// a set of ranges it gives the start of the one that holds the key, or its end.
func (r *reader) element(set string, key []byte, end bool) (el element, err error) {
	err = r.conn.Get(nfnetlink.Nftables(unix.NFT_MSG_GETSETELEM), unix.NFPROTO_INET, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		list := e.Open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		writeAsk(e, key, end)
		e.Close(list)
	}, func(m nfnetlink.Message) error {
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			if a.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				for l := nfnetlink.Attributes(a.Bytes()); l.Next(); {
					el = parseElement(slices.Clone(l.Bytes()))
				}
			}
		}
		return nil
	})
	return el, err
}

// writeAsk writes the key of an element that is asked for.
func writeAsk(e *nfnetlink.Encoder, key []byte, end bool) {
	item := e.Open(unix.NFTA_LIST_ELEM)
	value := e.Open(unix.NFTA_SET_ELEM_KEY)
	e.Bytes(unix.NFTA_DATA_VALUE, key)
	e.Close(value)
	if end {
		e.Uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	e.Close(item)
}
