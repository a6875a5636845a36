package simulate

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/explain"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Ends are the two ends of a packet. Ports are 0 where it has none.
type Ends struct {
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
}

// Verdict is what became of a packet.
type Verdict string

// The verdicts.
const (
	Forwarded Verdict = "accept" // it left by Out; also what the gateway itself sends
	Delivered Verdict = "local"  // it reached the gateway itself
	Dropped   Verdict = "drop"
	Rejected  Verdict = "reject"
	Synproxy  Verdict = "synproxy" // the gateway answers, and opens the flow when the client has
	Unrouted  Verdict = "no-route"
)

// Passes says whether a packet went on, or reached the gateway.
func (v Verdict) Passes() bool { return v == Forwarded || v == Delivered || v == Synproxy }

// Outcome is how a packet fared.
type Outcome struct {
	// Packet is as it was asked for, with what was left out found out or chosen.
	Packet Packet
	// Notes say what is odd about the question, or was chosen for it, each a
	// sentence without a full stop.
	Notes   []string
	Verdict Verdict
	To      string // the zone that it left to; "gateway": it was for the host; "": none
	Out     string // the interface that it left by, or would have
	// By is what dropped it or, of what passed, the entry of forward or input that
	// let it; its Entry is "" where none did.
	By      ruleset.Origin
	EndedAt ruleset.HookPoint
	// DNAT and SNAT are what translated its destination and its source; Kind is
	// ruleset.Continue where nothing did.
	DNAT, SNAT explain.Translation
	Arrived    Ends // as it came
	// Left is as it went on, or was when it was dropped. Where the kernel chooses,
	// it is the first that it may choose.
	Left         Ends
	Steps        []Step
	Choices      []Choice // what of Left the kernel chooses
	Mark, CtMark uint32   // of the packet and of its flow, at the end
	// Flow is what conntrack would hold; nil where it holds nothing of the packet.
	Flow *Flow
	// Answer is how the answer to it fares; nil where there is none.
	Answer *Answer
	// Hint says what would let a packet pass that did not, or "".
	Hint string
}

// Answer is how the answer to a packet fares.
type Answer struct {
	Verdict  Verdict
	In, Out  string // "": from or to the gateway itself
	Sent     Ends   // as the other side sends it
	Received Ends   // as it comes back to who sent the packet
	By       ruleset.Origin
	Mark     uint32
	Steps    []Step
	Notes    []string
	EndedAt  ruleset.HookPoint
}

// Entries are the entries and defaults that had a hand in it, as "masquerade lan",
// each once, in the order of the packet's way.
func (o *Outcome) Entries() []ruleset.Origin {
	var list []ruleset.Origin
	seen := map[ruleset.Origin]bool{}
	for _, s := range o.Steps {
		if s.Origin != nil && s.Origin.Entry != "" && !seen[*s.Origin] {
			seen[*s.Origin] = true
			list = append(list, *s.Origin)
		}
	}
	return list
}

func (o *Outcome) take(r *explain.Result) {
	o.DNAT, o.SNAT, o.Out, o.Mark, o.CtMark, o.EndedAt = r.DNAT, r.SNAT, r.Out, r.Mark, r.CtMark, r.At
	if r.By != nil && r.By.Entry != plumbing && r.By.Entry != zones {
		o.By = *opener(r.By, r) // what lets it pass is what that entry has opened
	}
	o.Left = o.Arrived
	if r.DNAT.Kind != ruleset.Continue {
		o.Left.Destination, o.Left.DestinationPort = r.DNAT.Address, r.DNAT.Port
	}
	if r.SNAT.Kind != ruleset.Continue {
		o.Left.Source, o.Left.SourcePort = r.SNAT.Address, r.SNAT.Port
	}
}
