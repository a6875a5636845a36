package main

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// judgedFlow is a connection that is kept, with what the policy says of it.
type judgedFlow struct {
	conntrack.Flow
	flows.Judgement
	place int // in which it was read: what decides between equals
}

// flowOrder says which of two connections is listed first: negative is a.
type flowOrder func(a, b *judgedFlow) int

func sortWords() []string {
	return []string{"bytes", "packets", "age", "timeout", "source", "destination", "entry"}
}

// readOrder reads --sort and --reverse. Nil is the order in which the kernel
// gives them.
func readOrder(sort string, reverse bool) (flowOrder, error) {
	if sort == "" {
		if reverse {
			return nil, usagef("--reverse turns the order of --sort round, which is not given")
		}
		return nil, nil
	}
	by := sortKey(sort)
	if by == nil {
		return nil, usagef("--sort %s: %v", shownValue(sort), notOneOf("order", sort, sortWords(), ""))
	}
	return func(a, b *judgedFlow) int {
		c := by(a, b)
		if reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.place, b.place))
	}, nil
}

// sortKey gives an order: of amounts the largest first.
func sortKey(sort string) flowOrder {
	switch sort {
	case "bytes":
		return func(a, b *judgedFlow) int {
			return cmp.Compare(b.Sent.Bytes+b.Received.Bytes, a.Sent.Bytes+a.Received.Bytes)
		}
	case "packets":
		return func(a, b *judgedFlow) int {
			return cmp.Compare(b.Sent.Packets+b.Received.Packets, a.Sent.Packets+a.Received.Packets)
		}
	case "age":
		return func(a, b *judgedFlow) int { return oldest(a.Start, b.Start) }
	case "timeout":
		return func(a, b *judgedFlow) int { return cmp.Compare(b.Timeout, a.Timeout) }
	case "source":
		return func(a, b *judgedFlow) int {
			return cmp.Or(a.Original.Source.Compare(b.Original.Source), cmp.Compare(a.Original.SourcePort, b.Original.SourcePort))
		}
	case "destination":
		return func(a, b *judgedFlow) int {
			return cmp.Or(a.Original.Destination.Compare(b.Original.Destination), cmp.Compare(a.Original.DestinationPort, b.Original.DestinationPort))
		}
	case "entry":
		return func(a, b *judgedFlow) int { return cmp.Compare(a.Origin.Entry, b.Origin.Entry) }
	}
	return nil
}

// oldest puts what has no age last.
func oldest(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// firsts keeps the first few of many connections, in an order. It is a heap with
// the last of them on top, so that it never holds more than these.
type firsts struct {
	order flowOrder
	limit int // 0: all
	seen  int
	kept  []*judgedFlow
	next  judgedFlow // to compare with, before it is known to be kept
}

func (k *firsts) add(f *conntrack.Flow, j *flows.Judgement) {
	k.next = judgedFlow{Flow: *f, Judgement: *j, place: k.seen}
	k.seen++
	switch full := k.limit > 0 && len(k.kept) == k.limit; {
	case full && k.order(&k.next, k.kept[0]) < 0:
		*k.kept[0] = k.next
		heap.Fix(k, 0)
	case full:
	case k.limit > 0:
		next := k.next
		heap.Push(k, &next)
	default:
		next := k.next
		k.kept = append(k.kept, &next)
	}
}

// sorted gives them in order, and is the end of the heap.
func (k *firsts) sorted() []*judgedFlow {
	slices.SortFunc(k.kept, k.order)
	return k.kept
}

// Len, Less, Swap, Push and Pop are those of heap.Interface.
func (k *firsts) Len() int           { return len(k.kept) }
func (k *firsts) Less(i, j int) bool { return k.order(k.kept[i], k.kept[j]) > 0 }
func (k *firsts) Swap(i, j int)      { k.kept[i], k.kept[j] = k.kept[j], k.kept[i] }
func (k *firsts) Push(x any)         { k.kept = append(k.kept, x.(*judgedFlow)) }
func (k *firsts) Pop() any {
	last := k.kept[len(k.kept)-1]
	k.kept = k.kept[:len(k.kept)-1]
	return last
}
