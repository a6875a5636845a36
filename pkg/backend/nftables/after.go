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
// the commit's own, or becomes another one meanwhile. With no changes it reads
// the elements that count, and no others.
func (b *Backend) HaveAfter(ctx context.Context, changes *plan.Changes) (*plan.Snapshot, error) {
	if asleep(changes.From) {
		return b.Have(ctx)
	}
	own := changes.From.Generation
	if !changes.Empty() {
		own++
	}
	var s *plan.Snapshot
	err := b.dial(func(c *nfnetlink.Conn) error {
		if now, err := c.Generation(); err != nil || now != own {
			return err
		}
		r := &reader{
			ctx: ctx, backend: b, conn: c, entries: map[string]uint32{}, after: changes, counts: map[string]uint32{},
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
	if r.after == nil || r.after.Empty() && parseSpec([]byte(s.Attributes)).counted {
		return false
	}
	to := setNamed(r.after.To, s)
	if to < 0 {
		return false
	}
	for i := range r.after.Sets {
		if c := &r.after.Sets[i]; c.To == to && !r.carriedOut(c) {
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
// much as to have two dumped. Ranges in concatenations are dumped, which takes
// less than a microsecond for each.
func (r *reader) carriedOut(c *plan.SetChange) bool {
	to := r.after.To.Sets[c.To]
	switch spec := parseSpec([]byte(to.Attributes)); {
	case spec.concatenated():
		return false
	case spec.interval():
		return r.rangesCarriedOut(c)
	case c.Kind != plan.Keep || 2*(len(c.Removed)+len(c.Added)) > to.Elements.Len()+16:
		return false
	}
	from := r.after.From.Sets[c.From]
	for _, i := range c.Removed {
		key := from.Elements.KeyAt(int(i))
		if to.Elements.Find(key) >= 0 {
			continue // it came with another value
		}
		if _, err := r.element(to.Name, key, false); !errors.Is(err, unix.ENOENT) {
			return false
		}
	}
	for _, i := range c.Added {
		record := to.Elements.At(int(i))
		key, data := record[:to.Elements.KeyLen], record[to.Elements.KeyLen:]
		el, err := r.element(to.Name, key, false)
		if err != nil || el.foreign || !bytes.Equal(el.key, key) || !bytes.Equal(el.data, data) || !r.of(to, int(i), el.comment) {
			return false
		}
	}
	return true
}

// of says whether an element's comment names the entry that it is wanted for.
func (r *reader) of(set *plan.Set, i int, comment []byte) bool {
	entry := r.after.To.ElementOrigin(set, i).Entry
	if len(comment) == 0 {
		return entry == set.Origin.Entry
	}
	return entry == string(comment)
}
