package link

import (
	"fmt"
	"net/netip"
	"strings"
)

// IPsecPolicy is a policy of ip-xfrm(8): what is let pass, and what only with IPsec.
type IPsecPolicy struct {
	Family      Family
	Direction   string // "in", "out" or "fwd"
	From, To    netip.Prefix
	Protocol    uint8 // 0: any
	FromPort    uint16
	ToPort      uint16
	Priority    int // lower comes first
	Blocks      bool
	Requires    bool // what comes has to have come by IPsec, what leaves will
	Conditional bool // it is for a link, an interface of its own, or a mark
	service     string
}

// For says whether it is for a packet.
func (p IPsecPolicy) For(direction string, source, destination netip.Addr, protocol uint8, sourcePort, destinationPort uint16) bool {
	return p.Direction == direction && p.From.Contains(source) && p.To.Contains(destination) &&
		(p.Protocol == 0 || p.Protocol == protocol) &&
		(p.FromPort == 0 || p.FromPort == sourcePort) && (p.ToPort == 0 || p.ToPort == destinationPort)
}

// Selector names it as ip-xfrm(8) takes it.
func (p IPsecPolicy) Selector() string {
	words := []string{"dir", p.Direction, "src", p.From.String(), "dst", p.To.String()}
	if p.service != "" {
		words = append(words, p.service)
	}
	return strings.Join(words, " ")
}

// String gives it much as ip-xfrm(8) lists it.
func (p IPsecPolicy) String() string {
	what := "action allow"
	switch {
	case p.Blocks:
		what = "action block"
	case p.Requires:
		what = "with a template that is not optional"
	}
	return fmt.Sprintf("%s priority %d %s", p.Selector(), p.Priority, what)
}
