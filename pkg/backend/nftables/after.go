//go:build linux

package nftables

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sort"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// HaveAfter reads all but the elements that the commit had no hand in, and
// those that it had one by one. It reads everything where the generation is not
// the commit's own, or becomes another one meanwhile.
func (b *Backend) HaveAfter(ctx context.Context, changes *plan.Changes) (*plan.Snapshot, error) {
	if asleep(changes.From) {
		return b.Have(ctx)
	}
	own := changes.From.Generation + 1
	var s *plan.Snapshot
	err := b.dial(func(c *nfnetlink.Conn) error {
		if now, err := c.Generation(); err != nil || now != own {
			return err
		}
		r := &reader{
			ctx: ctx, backend: b, conn: c, entries: map[string]uint32{}, after: changes,
			// What need not be read is what is wanted, and refers to these.
			snapshot: &plan.Snapshot{Generation: own, Origins: slices.Clip(changes.To.Origins)},
		}
		if err := r.read(); err != nil {
			return err
		}
		if now, err := c.Generation(); err != nil || now != own {
			return err
		}
		s = r.snapshot
		return nil
	})
	if err != nil || s == nil {
		return b.Have(ctx)
	}
	return s, nil
}

// known gives a set the elements that are wanted, where a commit has led there
// as far as can be told without reading all of them.
func (r *reader) known(s *plan.Set) bool {
	if r.after == nil {
		return false
	}
	from, to := setNamed(r.after.From, s), setNamed(r.after.To, s)
	if from < 0 || to < 0 {
		return false
	}
	for i := range r.after.Sets {
		if c := &r.after.Sets[i]; c.To == to && (c.Kind != plan.Keep || !r.carriedOut(c)) {
			return false
		}
	}
	s.Elements = r.after.To.Sets[to].Elements
	return true
}

// setNamed finds a set with the name and the attributes of one that was read.
func setNamed(in *plan.Snapshot, s *plan.Set) int {
	i := sort.Search(len(in.Sets), func(i int) bool { return in.Sets[i].Name >= s.Name })
	if i < len(in.Sets) && in.Sets[i].Name == s.Name && in.Sets[i].Attributes == s.Attributes {
		return i
	}
	return -1
}

// carriedOut asks for each key that was to come or go. To ask for one costs as
// much as to have two dumped. What the kernel says to a key in a range is not
// the range, so sets of ranges are read whole.
func (r *reader) carriedOut(c *plan.SetChange) bool {
	from, to := r.after.From.Sets[c.From], r.after.To.Sets[c.To]
	spec := parseSpec([]byte(to.Attributes))
	if spec.interval() || 2*(len(c.Removed)+len(c.Added)) > to.Elements.Len()+16 {
		return false
	}
	for _, i := range c.Removed {
		key := from.Elements.KeyAt(int(i))
		if to.Elements.Find(key) >= 0 {
			continue // it came with another value
		}
		if _, err := r.element(to.Name, key); !errors.Is(err, unix.ENOENT) {
			return false
		}
	}
	for _, i := range c.Added {
		record := to.Elements.At(int(i))
		key, data := record[:to.Elements.KeyLen], record[to.Elements.KeyLen:]
		el, err := r.element(to.Name, key)
		if err != nil || el.foreign || !bytes.Equal(el.key, key) || !bytes.Equal(el.data, data) {
			return false
		}
		entry := to.Origin.Entry
		if len(el.comment) > 0 {
			entry = string(el.comment)
		}
		if entry != r.after.To.ElementOrigin(to, int(i)).Entry {
			return false
		}
	}
	return true
}

// element asks for the element with a key; unix.ENOENT where there is none.
func (r *reader) element(set string, key []byte) (el element, err error) {
	err = r.conn.Get(message(unix.NFT_MSG_GETSETELEM), unix.NFPROTO_INET, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		list := e.Open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		item := e.Open(unix.NFTA_LIST_ELEM)
		value := e.Open(unix.NFTA_SET_ELEM_KEY)
		e.Bytes(unix.NFTA_DATA_VALUE, key)
		e.Close(value)
		e.Close(item)
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
