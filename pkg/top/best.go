package top

import "container/heap"

// best keeps the rows that come first, however many are offered. The last of
// those that are kept is at the top of the heap.
type best struct {
	order order
	limit int
	rows  []Row
}

// offer keeps a row if it is among the first. Its flow is copied then.
func (b *best) offer(r *Row) {
	full := len(b.rows) == b.limit
	if full && b.order.compare(r, &b.rows[0]) >= 0 {
		return
	}
	kept := *r
	if full {
		kept.Flow = b.rows[0].Flow // its memory, for this flow now
		*kept.Flow = *r.Flow
		b.rows[0] = kept
		heap.Fix(b, 0)
		return
	}
	f := *r.Flow
	kept.Flow = &f
	heap.Push(b, kept)
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (b *best) Len() int           { return len(b.rows) }
func (b *best) Less(i, j int) bool { return b.order.compare(&b.rows[i], &b.rows[j]) > 0 }
func (b *best) Swap(i, j int)      { b.rows[i], b.rows[j] = b.rows[j], b.rows[i] }
func (b *best) Push(r any)         { b.rows = append(b.rows, r.(Row)) }

// Pop is never used: what is no longer among the first is written over.
func (b *best) Pop() any {
	last := b.rows[len(b.rows)-1]
	b.rows = b.rows[:len(b.rows)-1]
	return last
}
