package doctor

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Flow is a flow that somebody asks about, as its first packet arrives.
type Flow struct {
	Protocol                    uint8
	Source, Destination         netip.Addr // Source is not valid where the gateway itself sends
	SourcePort, DestinationPort uint16     // SourcePort 0: any
	// Interface is what it arrives by; "": the one that leads back to its source.
	Interface string
}

// FlowForm is how a flow is written.
const FlowForm = `PROTOCOL SOURCE[:PORT] -> DESTINATION[:PORT] [in INTERFACE], as "tcp 192.168.1.5 -> 203.0.113.9:443"`

// ParseFlow reads a flow. IPv6 addresses with a port stand in brackets.
func ParseFlow(text string) (*Flow, error) {
	words := strings.Fields(strings.ReplaceAll(text, "->", " -> "))
	if len(words) == 6 && words[4] == "in" {
		f, err := ParseFlow(strings.Join(words[:4], " "))
		if err == nil {
			f.Interface = words[5]
		}
		return f, err
	}
	switch {
	case len(words) < 4:
		return nil, fmt.Errorf("a flow is written %s", FlowForm)
	case words[2] != "->":
		return nil, fmt.Errorf("there is no -> between %s and %s: a flow is written %s", words[1], words[2], FlowForm)
	case len(words) != 4:
		return nil, fmt.Errorf("%q is too much: a flow is written %s", strings.Join(words[4:], " "), FlowForm)
	}
	f := &Flow{}
	var err error
	if words[1] != "gateway" {
		if f.Source, f.SourcePort, err = end(words[1], "source"); err != nil {
			return nil, err
		}
	}
	if f.Destination, f.DestinationPort, err = end(words[3], "destination"); err != nil {
		return nil, err
	}
	if f.Source.IsValid() && f.Source.Is4() != f.Destination.Is4() {
		return nil, fmt.Errorf("%s and %s are of two IP families", f.Source, f.Destination)
	}
	if f.Protocol, err = protocol(words[0], f.Destination.Is6()); err != nil {
		return nil, err
	}
	switch ports := simulate.HasPorts(f.Protocol); {
	case ports && f.DestinationPort == 0 && f.Destination.Is6() && !strings.Contains(words[3], "["):
		return nil, fmt.Errorf("%s is an address without a port, and %s needs one; with one it is written [2001:db8::9]:443", words[3], words[0])
	case ports && f.DestinationPort == 0:
		return nil, fmt.Errorf("%s needs a port of the destination: %s", words[0], netip.AddrPortFrom(f.Destination, 443))
	case !ports && (f.DestinationPort != 0 || f.SourcePort != 0):
		return nil, fmt.Errorf("%s has no ports", words[0])
	}
	return f, nil
}

// protocol reads a protocol's name or number. ICMP is that of the family.
func protocol(text string, v6 bool) (uint8, error) {
	names := map[string]uint8{"tcp": policy.ProtocolTCP, "udp": policy.ProtocolUDP, "icmp": policy.ProtocolICMP, "icmpv6": policy.ProtocolICMPv6, "ping": policy.ProtocolICMP,
		"gre": policy.ProtocolGRE, "esp": policy.ProtocolESP, "ah": policy.ProtocolAH, "sctp": policy.ProtocolSCTP, "udplite": policy.ProtocolUDPLite}
	n, known := names[strings.ToLower(text)]
	if number, err := strconv.ParseUint(text, 10, 8); err == nil && number > 0 {
		n, known = uint8(number), true
	}
	switch {
	case !known:
		return 0, fmt.Errorf("%q is no protocol: tcp, udp, icmp, sctp, gre, ... or a number", text)
	case n == policy.ProtocolICMP && v6:
		return policy.ProtocolICMPv6, nil
	case n == policy.ProtocolICMPv6 && !v6:
		return 0, fmt.Errorf("icmpv6 is of IPv6")
	}
	return n, nil
}

// end reads an address with or without a port.
func end(text, what string) (netip.Addr, uint16, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap(), 0, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		if ap.Port() == 0 {
			return netip.Addr{}, 0, fmt.Errorf("the %s %s: there is no port 0", what, text)
		}
		return ap.Addr().Unmap(), ap.Port(), nil
	}
	if host, port, ok := strings.Cut(text, ":"); ok {
		if _, err := netip.ParseAddr(host); err == nil {
			return netip.Addr{}, 0, fmt.Errorf("the %s %s: %q is no port", what, text, port)
		}
	}
	if strings.Count(text, ":") > 1 {
		return netip.Addr{}, 0, fmt.Errorf("the %s %s is no address; IPv6 with a port is written [2001:db8::9]:443", what, text)
	}
	return netip.Addr{}, 0, fmt.Errorf("the %s %s is no IP address; names are not looked up", what, text)
}

// String gives the flow as it is written.
func (f *Flow) String() string {
	source := "gateway"
	if f.Source.IsValid() {
		source = portText(f.Source, f.SourcePort)
	}
	out := fmt.Sprintf("%s %s -> %s", policy.ProtocolName(f.Protocol), source, portText(f.Destination, f.DestinationPort))
	if f.Interface != "" {
		out += " in " + f.Interface
	}
	return out
}

// filter is what of conntrack's table may be of the flow.
func (f *Flow) filter() *conntrack.Filter {
	if f == nil {
		return &conntrack.Filter{}
	}
	out := &conntrack.Filter{Protocols: []uint8{f.Protocol}, Destinations: []netip.Prefix{netip.PrefixFrom(f.Destination, f.Destination.BitLen())}}
	if f.Source.IsValid() {
		out.Sources = []netip.Prefix{netip.PrefixFrom(f.Source, f.Source.BitLen())}
	}
	return out
}

// is says whether a flow of the table is the one, or one of those, asked about.
func (f *Flow) is(s *Seen) bool {
	o := &s.Original
	return s.Protocol == f.Protocol && o.Destination == f.Destination && o.DestinationPort == f.DestinationPort &&
		(!f.Source.IsValid() || o.Source == f.Source) && (f.SourcePort == 0 || o.SourcePort == f.SourcePort)
}

func (f *Flow) packet() simulate.Packet {
	p := simulate.Packet{Interface: f.Interface, Source: f.Source, Destination: f.Destination, Protocol: f.Protocol,
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort}
	if !f.Source.IsValid() {
		p.From = "gateway"
	}
	switch f.Protocol {
	case policy.ProtocolICMP:
		p.ICMPType = 8
	case policy.ProtocolICMPv6:
		p.ICMPType = 128
	}
	return p
}
