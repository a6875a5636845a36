//go:build linux

package nftables

import (
	"encoding/binary"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// elements writes elements of a set, in as many messages as the 16-bit length
// of an attribute makes necessary. Which are their indices; nil is all.
func (t *transaction) elements(msg int, flags uint16, side *plan.Snapshot, set *plan.Set, which []uint32, counted *plan.Elements) {
	spec := parseSpec([]byte(set.Attributes))
	n := len(which)
	if which == nil {
		n = set.Elements.Len()
	}
	w := &elementWriter{
		transaction: t, spec: spec, side: side, set: set, deleting: msg == unix.NFT_MSG_DELSETELEM,
		end: make([]byte, spec.keyLen), counted: counted,
	}
	t.batch.Reserve(n * (set.Elements.KeyLen + 64))
	for i := 0; i < n; {
		s := t.begin("set "+set.Name, set.Origin, msg, flags)
		s.side, s.set, s.elements, s.first = side, set, which, i
		t.batch.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		t.batch.String(unix.NFTA_SET_ELEM_LIST_SET, set.Name)
		list := t.batch.Open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for ; i < n && t.batch.Room(list) > maxElement; i++ {
			index := i
			if which != nil {
				index = int(which[i])
			}
			w.write(index)
		}
		t.batch.Close(list)
	}
}

// maxElement is more than an element and its range's end take: two keys of 64
// bytes each, data, a comment.
const maxElement = 1024

type elementWriter struct {
	*transaction
	spec     setSpec
	side     *plan.Snapshot
	set      *plan.Set
	deleting bool
	end      []byte // scratch
	// counted are the elements that were there before the set was made anew:
	// their counters go on.
	counted *plan.Elements
}

func (w *elementWriter) write(i int) {
	record := w.set.Elements.At(i)
	key, data := record[:w.set.Elements.KeyLen], record[w.set.Elements.KeyLen:]
	b := &w.batch
	low, high := key, []byte(nil)
	if w.spec.interval() {
		low, high = key[:len(key)/2], key[len(key)/2:]
	}
	el := b.Open(unix.NFTA_LIST_ELEM)
	w.value(unix.NFTA_SET_ELEM_KEY, low)
	if w.spec.concatenated() {
		w.value(nftaSetElemKeyEnd, high)
	}
	switch {
	case w.deleting || len(data) == 0:
	case w.spec.isVerdictMap():
		n := b.Open(unix.NFTA_SET_ELEM_DATA)
		v := b.Open(unix.NFTA_DATA_VERDICT)
		b.Uint32(unix.NFTA_VERDICT_CODE, binary.BigEndian.Uint32(data))
		if len(data) > 4 {
			b.String(unix.NFTA_VERDICT_CHAIN, string(data[4:]))
		}
		b.Close(v)
		b.Close(n)
	default:
		w.value(unix.NFTA_SET_ELEM_DATA, data)
	}
	if o := w.set.Elements.OriginAt(i); o != plan.NoOrigin && !w.deleting && w.side.Origins[o].Entry != w.set.Origin.Entry {
		var room [2 + maxComment]byte
		b.Bytes(unix.NFTA_SET_ELEM_USERDATA, appendComment(room[:0], commentRule, w.side.Origins[o].Entry))
	}
	w.count(key)
	b.Close(el)
	if !w.spec.interval() || w.spec.concatenated() || isLast(high) {
		return
	}
	copy(w.end, high)
	increment(w.end)
	end := b.Open(unix.NFTA_LIST_ELEM)
	w.value(unix.NFTA_SET_ELEM_KEY, w.end)
	b.Uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	b.Close(end)
}

// count writes what the element with a key has counted so far.
func (w *elementWriter) count(key []byte) {
	if w.counted == nil || w.deleting {
		return
	}
	i := w.counted.Find(key)
	if i < 0 || w.counted.CountAt(i).Packets == 0 {
		return
	}
	c := w.counted.CountAt(i)
	expr := w.batch.Open(unix.NFTA_SET_ELEM_EXPR)
	w.batch.String(unix.NFTA_EXPR_NAME, "counter")
	data := w.batch.Open(unix.NFTA_EXPR_DATA)
	w.batch.Uint64(unix.NFTA_COUNTER_BYTES, c.Bytes)
	w.batch.Uint64(unix.NFTA_COUNTER_PACKETS, c.Packets)
	w.batch.Close(data)
	w.batch.Close(expr)
}

func (w *elementWriter) value(typ uint16, v []byte) {
	n := w.batch.Open(typ)
	w.batch.Bytes(unix.NFTA_DATA_VALUE, v)
	w.batch.Close(n)
}
