package adopt

import (
	"fmt"
	"net/netip"
	"slices"
)

// Level says how much a finding matters.
type Level string

// The levels. With an Error the policy and the rules behave differently, and
// nobody should apply it before he has read it. A Note is about what ipmasq does a little
// differently by design, or what it leaves to others.
const (
	Error Level = "error"
	Note  Level = "note"
)

// Finding is something that the policy does not say as the rules did.
type Finding struct {
	Level   Level
	File    string // "": about the whole
	Line    int
	Rule    string // as it stands there
	Message string

	scope []box
	test  func(Packet) bool
	atoms *atoms
}

// Place gives "rules.v4:12", or "".
func (f Finding) Place() string {
	if f.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// Packet is the first packet of a flow, or one that answers it (Answer), as far
// as findings tell packets apart.
type Packet struct {
	In, Out             string // Out is where it leaves, or would; "" is the host itself
	Back                string // where the host would send answers; of an answer, where its connection came in
	Source, Destination netip.Addr
	// To is the destination behind translation.
	To                          netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	ToPort                      uint16
	ICMPType                    uint8
	Flags                       uint8
	Answer                      bool
}

// Covers says whether a finding is about a packet: whether rules and policy may
// treat it differently.
func (f Finding) Covers(p Packet) bool {
	if f.test != nil {
		return f.test(p)
	}
	return slices.ContainsFunc(f.scope, func(x box) bool {
		return f.atoms.holds(x, p, p.Destination, p.DestinationPort) || p.To.IsValid() && f.atoms.holds(x, p, p.To, p.ToPort)
	})
}

// holds says whether a packet may be in a box. What it does not tell about the
// packet does not count.
func (a *atoms) holds(x box, p Packet, to netip.Addr, port uint16) bool {
	if p.Answer && !x.b[byState].has(stateEstablished) && !x.b[byState].has(stateRelated) {
		return false
	}
	in := x.b[byIn].has(a.of(p.In))
	out := p.Out == "" || x.b[byOut].has(a.of(p.Out))
	if !in || !out || !x.b[byProtocol].has(int(p.Protocol)) || !x.src.has(p.Source) || !x.dst.has(to) {
		return false
	}
	switch p.Protocol {
	case 6, 17, 132, 136:
		return x.sport.has(p.SourcePort) && x.dport.has(port)
	case 1, 58:
		return x.b[byICMP].has(int(p.ICMPType))
	}
	return true
}

// listed adds a finding about a place of the input.
func (m *importer) listed(level Level, at origin, scope []box, format string, args ...any) {
	f := Finding{Level: level, File: at.file, Line: at.line, Rule: at.text, Message: fmt.Sprintf(format, args...), scope: scope, atoms: &m.atoms}
	for i, g := range m.findings {
		if g.File == f.File && g.Line == f.Line && g.Message == f.Message && g.Level == f.Level {
			m.findings[i].scope = append(m.findings[i].scope, scope...)
			return
		}
	}
	m.findings = append(m.findings, f)
}
