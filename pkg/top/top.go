// Package top is a live view of the flows in the kernel's table: who sends how
// much, by host, by entry of the policy, by destination and by flow.
//
// A [Table] takes in one listing after another and makes a [Sample] of each:
// rows with rates, from the difference of the counters of the same flow. It
// knows neither terminals nor sockets. [Run] shows samples on a terminal, and
// [Batch] prints them.
//
// What surprises:
//
//   - The kernel counts only where nf_conntrack_acct is on when a flow begins.
//     Elsewhere flows have no rates, and still count as flows.
//   - What a flow carried between the last listing and its end is not seen.
//   - A million flows cost some 60 MB: of each one only the last counters are
//     kept, 40 bytes and up to 8 to find them. Rows of flows are kept for the
//     first 10,000 in the order asked for; rows of hosts and destinations for
//     100,000, and those that come after stand in one row together.
package top

import (
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// Source is the kernel's table of flows; conntrack.Conn is one.
type Source interface {
	List(filter *conntrack.Filter, yield func(*conntrack.Flow) bool) error
	DeleteAll(flows []conntrack.Flow) (deleted int, err error)
}

// Judge tells which entry of the policy a flow belongs to; flows.Judge is one.
// It is asked once for each flow, by one goroutine at a time.
type Judge interface {
	Judge(f *conntrack.Flow) flows.Judgement
}

// Options say what is shown, and of what.
type Options struct {
	Source Source
	Judge  Judge // nil: there is no policy, and no flow has an entry
	// Fill tells how many flows the kernel has, and how many it would take. Nil
	// is allowed.
	Fill func() (count, limit uint64, err error)

	// Filter, Match and MatchPolicy say which flows are meant: those that all
	// three allow. Match looks at what a flow is now and MatchPolicy, once for
	// each flow, at what the judge says of it. Nil allows every flow.
	Filter      conntrack.Filter
	Match       func(*conntrack.Flow) bool
	MatchPolicy func(*flows.Judgement) bool

	// Spare says which flows no kill is for: the session that this is run over.
	Spare func(*conntrack.Flow) bool

	Interval time.Duration // between two listings, at least
	View     View
	Sort     Column
	Reversed bool
	NoColor  bool
	Name     string // of the network namespace, for the title; "" for the usual one
}

// restless says whether a flow can begin to be meant in the middle of its life.
func (o *Options) restless() bool {
	return len(o.Filter.States) > 0 || o.Filter.StatusMask != 0 || o.Filter.MarkMask != 0 || o.Match != nil
}

// pace is how long after the beginning of a listing the next one begins: a
// listing that took long is paid for by a longer rest, so that it never takes
// more than a third of a processor.
func pace(interval, took time.Duration) time.Duration { return max(interval, 3*took) }
