package main

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

type prefix = netip.Prefix

// protocolDCCP has ports, and no name in a policy.
const protocolDCCP = 33

var errEmpty = errors.New("is empty")

// readAddresses reads an address, a prefix, or a range as the fewest prefixes.
func readAddresses(text string) ([]prefix, error) {
	switch {
	case text == "":
		return nil, errEmpty
	case strings.Contains(text, "/"):
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, errors.New("is not an address with the length of its prefix, as 192.0.2.0/24")
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Masked() != p {
			return nil, fmt.Errorf("has bits set behind its prefix; write %s, or the address alone", p.Masked())
		}
		return []prefix{p}, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	low, err := readAddress(first)
	if err != nil || !isRange {
		return []prefix{netip.PrefixFrom(low, low.BitLen())}, err
	}
	high, err := readAddress(last)
	switch {
	case err != nil:
		return nil, err
	case low.Is4() != high.Is4():
		return nil, errors.New("begins and ends in different families")
	case high.Less(low):
		return nil, fmt.Errorf("is the wrong way round; write %s-%s", high, low)
	}
	return prefixesOf(low, high), nil
}

func readAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, errors.New("is not an address, a prefix (192.0.2.0/24) or a range (192.0.2.1-192.0.2.9)")
	case a.Zone() != "":
		return a, fmt.Errorf("names an interface, which a flow does not have; write %s", a.WithZone(""))
	}
	return a.Unmap(), nil
}

// prefixText leaves out the length where the prefix is one address.
func prefixText(p prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// prefixesOf gives the fewest prefixes that make up a range: each time the
// largest that begins where the last one ended.
func prefixesOf(low, high netip.Addr) []prefix {
	var out []prefix
	for {
		length := low.BitLen() - trailingZeros(low)
		p := netip.PrefixFrom(low, length)
		for high.Less(policy.LastOf(p)) {
			length++
			p = netip.PrefixFrom(low, length)
		}
		out = append(out, p)
		last := policy.LastOf(p)
		if last == high {
			return out
		}
		low = last.Next()
	}
}

func trailingZeros(a netip.Addr) int {
	n := 0
	for _, b := range slices.Backward(a.AsSlice()) {
		if b != 0 {
			return n + bits.TrailingZeros8(b)
		}
		n += 8
	}
	return n
}

func readPorts(text string) ([]conntrack.PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	low, err := readPort(first)
	if err != nil || !isRange {
		return []conntrack.PortRange{{Low: low, High: low}}, err
	}
	high, err := readPort(last)
	if err == nil && high < low {
		err = fmt.Errorf("is the wrong way round; write %d-%d", high, low)
	}
	return []conntrack.PortRange{{Low: low, High: high}}, err
}

func readPort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("is not a port from 1 to 65535, or a range of them, as 8000-8080")
	}
	return uint16(n), nil
}

func readProtocol(text string) ([]uint8, error) {
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return []uint8{uint8(n)}, nil
	}
	names := protocolWords()
	for n := range 256 {
		if name := policy.ProtocolName(uint8(n)); name == text && slices.Contains(names, name) {
			return []uint8{uint8(n)}, nil
		}
	}
	return nil, notOneOf("protocol", text, names, " or a number from 0 to 255")
}

// protocolWords are the protocols that a policy has names for.
func protocolWords() []string {
	return []string{"tcp", "udp", "sctp", "udplite", "icmp", "icmpv6", "gre", "esp", "ah"}
}

func readFamily(text string) ([]conntrack.Family, error) {
	switch text {
	case "ipv4":
		return []conntrack.Family{conntrack.IPv4}, nil
	case "ipv6":
		return []conntrack.Family{conntrack.IPv6}, nil
	}
	return nil, notOneOf("family", text, []string{"ipv4", "ipv6"}, "")
}

func stateWords() []string {
	return append(conntrack.TCPStates()[1:], "assured", "unreplied", "replied", "snat", "dnat", "expected")
}

func readState(text string) ([]flowState, error) {
	bit := func(s conntrack.Status) ([]flowState, error) { return []flowState{{status: s, mask: s}}, nil }
	switch text {
	case "assured":
		return bit(conntrack.StatusAssured)
	case "replied":
		return bit(conntrack.StatusSeenReply)
	case "unreplied":
		return []flowState{{mask: conntrack.StatusSeenReply}}, nil
	case "snat":
		return bit(conntrack.StatusSNAT)
	case "dnat":
		return bit(conntrack.StatusDNAT)
	case "expected":
		return bit(conntrack.StatusExpected)
	}
	if i := slices.Index(conntrack.TCPStates(), text); i > 0 {
		return []flowState{{tcp: conntrack.State(i)}}, nil
	}
	return nil, notOneOf("state", text, stateWords(), "")
}

func readMark(text string) ([]markBits, error) {
	value, mask, hasMask := strings.Cut(text, "/")
	m := markBits{mask: 0xffffffff}
	v, err := strconv.ParseUint(value, 0, 32)
	if err == nil && hasMask {
		var n uint64
		n, err = strconv.ParseUint(mask, 0, 32)
		m.mask = uint32(n)
	}
	m.value = uint32(v)
	switch {
	case err != nil:
		return nil, errors.New("is not a mark, as 0x1, or bits of one, as 0x1/0xff")
	case m.mask == 0:
		return nil, errors.New("looks at no bit; write a mask other than 0")
	case m.value&^m.mask != 0:
		return nil, fmt.Errorf("has bits set that the mask leaves out; write %#x/%#x", m.value&m.mask, m.mask)
	}
	return []markBits{m}, nil
}

// readName reads the name of a zone or entry. - stands for none.
func readName(text string) ([]string, error) {
	switch text {
	case "":
		return nil, errEmpty
	case "-":
		return []string{""}, nil
	}
	return []string{strings.Join(strings.Fields(text), " ")}, nil
}

func notOneOf(what, text string, words []string, more string) error {
	if text == "" {
		return errEmpty
	}
	near := nearest(strings.ToLower(text), words)
	for _, w := range words {
		if near == "" && len(text) > 2 && strings.HasPrefix(w, strings.ToLower(text)) {
			near = w
		}
	}
	if near != "" {
		return fmt.Errorf("no such %s; did you mean %s?", what, near)
	}
	list := strings.Join(words, ", ")
	if more == "" {
		list = strings.Join(words[:len(words)-1], ", ")
		more = " and " + words[len(words)-1]
	}
	return fmt.Errorf("no such %s; there are %s%s", what, list, more)
}
