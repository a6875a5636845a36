package top

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// Key names a row. The same one is in every sample.
type Key struct {
	View  View
	Addr  netip.Addr // of a host or destination; not valid: those that had no room
	Entry string     // "-": none of ours
	flow  uint64
}

// Row is one line: a host, an entry, a destination or a flow.
type Row struct {
	Key
	Flows   int
	Counted bool    // the kernel counts for one of the flows at least
	Recent  Traffic // since the sample before
	Bytes   uint64  // of both directions, since the flows began
	// Flow is a row's own flow, in the view by flow alone.
	Flow *conntrack.Flow
}

func (r *Row) add(o *Row) {
	r.Flows += o.Flows
	r.Counted = r.Counted || o.Counted
	r.Recent.add(o.Recent)
	r.Bytes += o.Bytes
}

// Text is what a person calls the row.
func (r *Row) Text() string {
	switch {
	case r.Flow != nil:
		return r.Flow.String()
	case r.View == ByEntry:
		return r.Entry
	case !r.Addr.IsValid():
		return "(others)"
	}
	return r.Addr.String()
}

// state is where a row's own flow is in its life.
func (r *Row) state() string {
	if r.Flow == nil {
		return ""
	}
	return r.Flow.Stage()
}

// contains says whether the text of a row holds a word, in lower case.
func (r *Row) contains(word string) bool {
	if word == "" {
		return true
	}
	text := r.Text()
	if r.Flow != nil {
		text += " " + r.Entry + " " + r.state()
	}
	return strings.Contains(strings.ToLower(text), word)
}

func (r *Row) number(c Column) uint64 {
	t := &r.Recent
	switch c {
	case Rate:
		return t.SentBytes + t.ReceivedBytes
	case Sent:
		return t.SentBytes
	case Received:
		return t.ReceivedBytes
	case PacketsSent:
		return t.SentPackets
	case PacketsReceived:
		return t.ReceivedPackets
	case Bytes:
		return r.Bytes
	case Flows:
		return uint64(r.Flows)
	}
	return 0
}

// order is how rows stand: the largest first, names from a to z, and what is
// equal so that it stands still from one sample to the next.
type order struct {
	column   Column
	reversed bool
}

func (o order) compare(a, b *Row) int {
	n := 0
	if o.column == Name {
		n = compareNames(a, b)
	} else {
		n = cmp.Compare(b.number(o.column), a.number(o.column))
	}
	if o.reversed {
		n = -n
	}
	switch {
	case n != 0:
		return n
	case o.column != Flows && a.Flows != b.Flows:
		return b.Flows - a.Flows
	case o.column != Bytes && a.Bytes != b.Bytes:
		return cmp.Compare(b.Bytes, a.Bytes)
	}
	return cmp.Or(compareNames(a, b), cmp.Compare(a.flow, b.flow))
}

func compareNames(a, b *Row) int {
	if a.Flow == nil || b.Flow == nil {
		return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(a.Entry, b.Entry))
	}
	x, y := &a.Flow.Original, &b.Flow.Original
	return cmp.Or(x.Source.Compare(y.Source), x.Destination.Compare(y.Destination),
		cmp.Compare(x.SourcePort, y.SourcePort), cmp.Compare(x.DestinationPort, y.DestinationPort))
}
