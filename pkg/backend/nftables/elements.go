//go:build linux

package nftables

import (
	"bytes"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// element is one element as the kernel dumps it. A range of a single field is
// two of these, the second with the flag INTERVAL_END and the first key that
// is no longer in the range; a range in a concatenation is one, with both ends.
type element struct {
	key, high, data []byte
	end             bool
	foreign         bool // it has what no element of ours has
	comment         []byte
	count           plan.Count
}

// foreignMark makes the attributes of a set that somebody put other things
// into than we would differ from any that are wanted, so that the set is made
// anew. The kernel skips attributes that it does not know.
const foreignMark = "\x04\x00\xff\x3f"

func (r *reader) elements(s *plan.Set) error {
	spec := parseSpec([]byte(s.Attributes))
	s.Elements.KeyLen = spec.recordKey()
	take := func(el *element) { r.add(s, r.origin(el.comment), el.key, el.high, el.data, el.count) }
	var h *halves
	switch {
	case spec.concatenated():
		take = func(el *element) {
			if el.high == nil {
				el.high = el.key
			}
			r.add(s, r.origin(el.comment), el.key, el.high, el.data, el.count)
		}
	case spec.interval():
		h = &halves{keyLen: int(spec.keyLen)}
		take = func(el *element) { h.take(el, r.origin(el.comment)) }
	}
	foreign := false
	var el element // one for all, or each is allocated
	err := r.dump(unix.NFT_MSG_GETSETELEM, unix.NFTA_SET_ELEM_LIST_TABLE, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	}, func(p []byte) error {
		for a := nfnetlink.Attributes(p); a.Next(); {
			if a.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for l := nfnetlink.Attributes(a.Bytes()); l.Next(); {
				el = parseElement(l.Bytes())
				if el.foreign || len(el.key) != int(spec.keyLen) || el.high != nil && len(el.high) != int(spec.keyLen) {
					foreign = true
					continue
				}
				take(&el)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h != nil && !h.pair(r, s) || foreign {
		s.Attributes += foreignMark
	}
	return nil
}

// origin gives the index of an entry, which is an element's comment.
func (r *reader) origin(comment []byte) uint32 {
	if len(comment) == 0 {
		return plan.NoOrigin
	}
	origin, known := r.entries[string(comment)]
	if !known {
		origin = uint32(len(r.snapshot.Origins))
		entry := string(comment)
		r.entries[entry] = origin
		r.snapshot.Origins = append(r.snapshot.Origins, ruleset.Origin{Entry: entry})
	}
	return origin
}

func (r *reader) add(s *plan.Set, origin uint32, key, high, data []byte, count plan.Count) {
	s.Elements.Append(origin, key, high, data)
	if count.Packets > 0 {
		s.Elements.Count(count)
	}
}

// halves are the starts and ends of a set's ranges, packed.
type halves struct {
	keyLen     int
	keys, data []byte
	list       []half
}

type half struct {
	index   uint32 // of its key
	data    uint32 // where its data starts
	dataLen uint16
	end     bool
	origin  uint32
	count   plan.Count
}

func (h *halves) take(el *element, origin uint32) {
	h.list = append(h.list, half{
		index: uint32(len(h.list)), data: uint32(len(h.data)), dataLen: uint16(len(el.data)),
		end: el.end, origin: origin, count: el.count,
	})
	h.keys = append(h.keys, el.key...)
	h.data = append(h.data, el.data...)
}

func (h *halves) key(x *half) []byte {
	at := int(x.index) * h.keyLen
	return h.keys[at : at+h.keyLen]
}

// compare orders halves by key. Where one range ends the next may start.
func (h *halves) compare(a, b half) int {
	if c := bytes.Compare(h.key(&a), h.key(&b)); c != 0 || a.end == b.end {
		return c
	}
	if a.end {
		return -1
	}
	return 1
}

// pair puts the halves together. An end without a start before it, as nft(8)
// writes at the lowest key, is no range. It returns false where a range has no
// end of its own, as no set of ours has.
func (h *halves) pair(r *reader, s *plan.Set) bool {
	// The kernel dumps from the last to the first.
	slices.Reverse(h.list)
	if !slices.IsSortedFunc(h.list, h.compare) {
		slices.SortStableFunc(h.list, h.compare)
	}
	last := bytes.Repeat([]byte{0xff}, h.keyLen)
	high := make([]byte, h.keyLen)
	whole := true
	s.Elements.Grow(len(h.list)/2+1, 2*h.keyLen+len(h.data)/max(len(h.list)/2, 1))
	for i := range h.list {
		x := &h.list[i]
		if x.end {
			continue
		}
		copy(high, last)
		if i+1 < len(h.list) {
			next := &h.list[i+1]
			whole = whole && next.end
			copy(high, h.key(next))
			decrement(high)
		}
		r.add(s, x.origin, h.key(x), high, h.data[x.data:x.data+uint32(x.dataLen)], x.count)
	}
	return whole
}

// decrement turns a key into the one before it; increment into the one behind
// it, and overflows to zero.
func decrement(key []byte) {
	for i := len(key) - 1; i >= 0; i-- {
		key[i]--
		if key[i] != 0xff {
			return
		}
	}
}

func increment(key []byte) {
	for i := len(key) - 1; i >= 0; i-- {
		key[i]++
		if key[i] != 0 {
			return
		}
	}
}

// parseElement reads one element. It shares the buffer.
func parseElement(p []byte) element {
	var el element
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			el.key = dataValue(a.Bytes())
		case nftaSetElemKeyEnd:
			el.high = dataValue(a.Bytes())
		case unix.NFTA_SET_ELEM_DATA:
			el.data = dataValue(a.Bytes())
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := a.Uint32()
			el.end = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
			el.foreign = el.foreign || flags&^unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_TIMEOUT, nftaSetElemObjref, nftaSetElemExpressions:
			el.foreign = true
		case unix.NFTA_SET_ELEM_USERDATA:
			el.comment = comment(a.Bytes())
		case unix.NFTA_SET_ELEM_EXPR:
			for x := nfnetlink.Attributes(a.Bytes()); x.Next(); {
				if x.Type() == unix.NFTA_EXPR_DATA {
					el.count.Packets, el.count.Bytes = counterValues(x.Bytes())
				}
			}
		}
	}
	return el
}

// dataValue reads a value, or a verdict as it stands in a record.
func dataValue(p []byte) []byte {
	a := nfnetlink.Attributes(p)
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_DATA_VALUE:
			return a.Bytes()
		case unix.NFTA_DATA_VERDICT:
			var code uint32
			var chain string
			for v := nfnetlink.Attributes(a.Bytes()); v.Next(); {
				switch v.Type() {
				case unix.NFTA_VERDICT_CODE:
					code = v.Uint32()
				case unix.NFTA_VERDICT_CHAIN:
					chain = v.String()
				}
			}
			return verdictRecord(code, []byte(chain))
		}
	}
	return nil
}
