package main

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// explainDocument is what became of a packet, as data.
type explainDocument struct {
	FormatVersion int              `json:"format_version"`
	Files         []string         `json:"files"`
	Packet        packetDocument   `json:"packet"`
	Verdict       string           `json:"verdict"`
	By            *originDocument  `json:"by"`
	EndedAt       string           `json:"ended_at"`
	To            string           `json:"to"`
	Interface     string           `json:"interface"`
	Left          packetEnds       `json:"left"`
	Mark          uint32           `json:"mark"`
	Steps         []stepDocument   `json:"steps"`
	Choices       []choiceDocument `json:"choices"`
	Conntrack     *heldDocument    `json:"conntrack"`
	Answer        *answerDocument  `json:"answer"`
	Notes         []string         `json:"notes"`
	Hint          string           `json:"hint"`
	Live          *[]walkDocument  `json:"live,omitempty"`
}

type originDocument struct {
	Entry string `json:"entry"`
	Place string `json:"place"`
}

type packetEnds struct {
	Source          string `json:"source"`
	Destination     string `json:"destination"`
	SourcePort      uint16 `json:"source_port"`
	DestinationPort uint16 `json:"destination_port"`
}

type packetDocument struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Interface string `json:"interface"`
	Protocol  string `json:"protocol"`
	packetEnds
	ICMPType *uint8 `json:"icmp_type,omitempty"`
	TCPFlags string `json:"tcp_flags,omitempty"`
	State    string `json:"state"`
	Mark     uint32 `json:"mark"`
}

type stepDocument struct {
	Hook    string   `json:"hook"`
	Actor   string   `json:"actor"`
	Entry   string   `json:"entry"`
	Place   string   `json:"place"`
	Chain   string   `json:"chain"`
	Rule    string   `json:"rule"`
	Looked  []string `json:"looked"`
	Does    string   `json:"does"`
	Limit   string   `json:"limit"`
	Limited bool     `json:"limited"`
	Matters bool     `json:"matters"`
	packetEnds
	After packetEnds `json:"after"`
}

type choiceDocument struct {
	What string   `json:"what"`
	Of   []string `json:"of"`
	How  string   `json:"how"`
	Kept bool     `json:"kept"`
}

type heldDocument struct {
	Original  packetEnds        `json:"original"`
	Reply     packetEnds        `json:"reply"`
	Mark      uint32            `json:"mark"`
	Helpers   []string          `json:"helpers"`
	Timeouts  map[string]uint32 `json:"timeouts"`
	Flowtable string            `json:"flowtable"`
}

type answerDocument struct {
	Verdict  string          `json:"verdict"`
	By       *originDocument `json:"by"`
	Arrives  string          `json:"arrives"`
	Leaves   string          `json:"leaves"`
	Sent     packetEnds      `json:"sent"`
	Received packetEnds      `json:"received"`
	Mark     uint32          `json:"mark"`
	Steps    []stepDocument  `json:"steps"`
	Notes    []string        `json:"notes"`
}

func explainJSON(g *gateway, out *simulate.Outcome) explainDocument {
	d := explainDocument{
		FormatVersion: formatVersion, Files: g.files, Packet: packetJSON(&out.Packet), Verdict: string(out.Verdict), By: originJSON(out.By),
		EndedAt: out.EndedAt.String(), To: out.To, Interface: out.Out, Left: endsJSON(out.Left), Mark: out.Mark,
		Steps: stepsJSON(out.Steps), Choices: []choiceDocument{}, Notes: append([]string{}, out.Notes...), Hint: out.Hint,
	}
	for _, c := range out.Choices {
		d.Choices = append(d.Choices, choiceDocument{string(c.What), c.Of, c.How, c.Kept})
	}
	if f := out.Flow; f != nil {
		d.Conntrack = &heldDocument{endsJSON(f.Original), endsJSON(f.Reply), f.Mark, append([]string{}, f.Helpers...), map[string]uint32{}, f.Flowtable}
		for _, t := range f.Timeouts {
			d.Conntrack.Timeouts[t.State] = t.Seconds
		}
	}
	if a := out.Answer; a != nil {
		d.Answer = &answerDocument{string(a.Verdict), originJSON(a.By), a.In, a.Out, endsJSON(a.Sent), endsJSON(a.Received), a.Mark,
			stepsJSON(a.Steps), append([]string{}, a.Notes...)}
	}
	return d
}

func originJSON(o ruleset.Origin) *originDocument {
	if o.Entry == "" {
		return nil
	}
	return &originDocument{o.Entry, o.Place.String()}
}

func endsJSON(e simulate.Ends) packetEnds {
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	return packetEnds{text(e.Source), text(e.Destination), e.SourcePort, e.DestinationPort}
}

func packetJSON(p *simulate.Packet) packetDocument {
	d := packetDocument{From: p.From, To: p.To, Interface: p.Interface, Protocol: policy.ProtocolName(p.Protocol),
		packetEnds: endsJSON(simulate.Ends{Source: p.Source, Destination: p.Destination, SourcePort: p.SourcePort, DestinationPort: p.DestinationPort}),
		State:      simulate.StateName(p.State), Mark: p.Mark}
	switch p.Protocol {
	case policy.ProtocolICMP, policy.ProtocolICMPv6:
		d.ICMPType = &p.ICMPType
	case policy.ProtocolTCP:
		d.TCPFlags = simulate.FlagNames(p.TCPFlags)
	}
	return d
}

func stepsJSON(steps []simulate.Step) []stepDocument {
	out := []stepDocument{}
	for i := range steps {
		s := &steps[i]
		d := stepDocument{Hook: s.Hook.String(), Actor: string(s.By), Looked: append([]string{}, s.Looked...), Does: s.Does,
			Limit: s.Limit, Limited: s.Limited, Matters: s.Matters, After: endsJSON(s.After),
			packetEnds: endsJSON(simulate.Ends{Source: s.Source, Destination: s.Destination, SourcePort: s.SourcePort, DestinationPort: s.DestinationPort})}
		if s.Rule != nil {
			d.Entry, d.Place, d.Chain, d.Rule = s.Origin.Entry, s.Origin.Place.String(), s.Chain.Name, s.Rule.ID
		}
		out = append(out, d)
	}
	return out
}
