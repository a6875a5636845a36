package top

import "slices"

// View is what a row stands for.
type View uint8

// The views.
const (
	ByHost        View = iota // the inside end of a flow
	ByEntry                   // the entry of the policy
	ByDestination             // where a flow leads to, after translation
	ByFlow
	views
)

var viewNames = [views]string{"host", "entry", "destination", "flow"}

func (v View) String() string { return viewNames[v] }

// ParseView reads the name of a view.
func ParseView(text string) (View, bool) {
	v := slices.Index(viewNames[:], text)
	return View(max(v, 0)), v >= 0
}

// Views are the names of the views.
func Views() []string { return slices.Clone(viewNames[:]) }

// Column is what rows are sorted by.
type Column uint8

// The columns. Sent is what the host of a row sent, and Received what it got;
// for entries, destinations and flows it is the side that opened the flow.
const (
	Rate     Column = iota // of both directions
	Sent                   // bits a second
	Received               // bits a second
	PacketsSent
	PacketsReceived
	Bytes // of both directions, since the flows began
	Flows
	Name
	columns
)

var columnNames = [columns]string{"rate", "sent", "received", "packets-sent", "packets-received", "bytes", "flows", "name"}

func (c Column) String() string { return columnNames[c] }

// ParseColumn reads the name of a column.
func ParseColumn(text string) (Column, bool) {
	c := slices.Index(columnNames[:], text)
	return Column(max(c, 0)), c >= 0
}

// Columns are the names of the columns.
func Columns() []string { return slices.Clone(columnNames[:]) }
