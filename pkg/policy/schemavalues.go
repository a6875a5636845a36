package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// text is a scalar as it is written. YAML may take it for a number or for true
// and false, to which a pattern does not apply.
func text(pattern string) *schema {
	return &schema{Type: []string{"string", "number", "boolean"}, Pattern: pattern}
}

func whole(pattern string) string { return "^(?:" + pattern + ")$" }

func alternatives(words []string) string { return "(?:" + strings.Join(words, "|") + ")" }

// number is a whole number, with or without quotes. The pattern is that of a
// number within the bounds where these are those of a port; others are looked
// at by the parser.
func number(low, high uint32) *schema {
	pattern := "0|[1-9][0-9]*"
	if high == math.MaxUint16 {
		pattern = portNumber
		if low == 0 {
			pattern = "0|" + portNumber
		}
	}
	return &schema{Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high, Pattern: whole(pattern)}
}

const (
	portNumber = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
	byteNumber = "[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]"
	digits     = "0|[1-9][0-9]{0,8}"
	entryName  = "[a-z0-9][a-z0-9-]{0,62}"
)

// portsPattern is a port, or a range of ports; white space around the numbers
// is passed over, as parsePorts does.
func portsPattern() string {
	one := `\s*(?:` + portNumber + `)\s*`
	return one + "(?:-" + one + ")?"
}

func portValue() *schema {
	low, high := uint32(1), uint32(math.MaxUint16)
	return &schema{Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high, Pattern: whole(portsPattern())}
}

func nameValue() *schema {
	s := text(whole(entryName))
	s.Not = &schema{Enum: []string{"any", "gateway"}}
	return s
}

// referenceValue is looser than a name: that there is such a zone is for the
// parser to see.
func referenceValue() *schema { return text(whole(entryName)) }

// interfaceValue follows interfaceProblem. Bytes are counted as characters
// here, and white space beyond ASCII is left to the parser.
func interfaceValue() *schema {
	const any, last = `[^/:*\x00-\x20\x7f]`, `[^/:*+\x00-\x20\x7f]`
	s := text(whole(any + `{1,15}\*|` + any + `{0,14}` + last))
	s.Not = &schema{Enum: []string{".", ".."}}
	return s
}

func setNameValue() *schema {
	return &schema{Type: "string", Pattern: "^@" + entryName + "$"}
}

// ipv4 and ipv6 are addresses as package netip reads them (RFC 3986, appendix
// A, has the grammar of the second).
func ipv4() string {
	one := "(?:" + byteNumber + ")"
	return one + `(?:\.` + one + "){3}"
}

func ipv6() string {
	const group = "[0-9A-Fa-f]{1,4}"
	last := "(?:" + group + ":" + group + "|" + ipv4() + ")"
	forms := []string{"(?:" + group + ":){6}" + last, "::(?:" + group + ":){5}" + last}
	before := func(most int) string {
		if most == 0 {
			return "(?:" + group + ")?"
		}
		return fmt.Sprintf("(?:(?:%s:){0,%d}%s)?", group, most, group)
	}
	for most := range 5 {
		middle := ""
		if behind := 4 - most; behind > 0 {
			middle = fmt.Sprintf("(?:%s:){%d}", group, behind)
		}
		forms = append(forms, before(most)+"::"+middle+last)
	}
	forms = append(forms, before(5)+"::"+group, before(6)+"::")
	return alternatives(forms)
}

func oneAddress() *schema {
	return &schema{Type: "string", Pattern: whole(ipv4() + "|" + ipv6())}
}

// addressValue is an address, a prefix or a range.
func addressValue() *schema {
	forms := func(address, lengths string) *schema {
		return &schema{Type: "string", Pattern: whole(address + "(?:/(?:" + lengths + `))?|\s*` + address + `\s*-\s*` + address + `\s*`)}
	}
	return anyOf(
		titled("IPv4", forms(ipv4(), "[0-9]|[12][0-9]|3[0-2]")),
		titled("IPv6", forms(ipv6(), "[0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]")),
	)
}

func prefixShape() *schema {
	return &schema{Type: "string", Pattern: whole(ipv4() + "(?:/(?:[0-9]|[12][0-9]|3[0-2]))?|" + ipv6() + "(?:/(?:[0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?")}
}

func targetValue() *schema {
	ports := "(?::" + portsPattern() + ")?"
	return &schema{Type: "string", Pattern: whole(ipv4() + ports + "|" + ipv6() + `|\[` + ipv6() + `\]` + ports)}
}

func protocolValue() *schema {
	low, high := uint32(0), uint32(math.MaxUint8)
	return anyOf(&schema{Enum: protocolNames()},
		&schema{Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high, Pattern: whole(byteNumber)})
}

// portProtocolNames and portProtocolNumbers are the protocols that have ports.
func portProtocolNames() []string {
	var names []string
	for _, name := range protocolNames() {
		if number, _ := protocolNumber(name); HasPorts(number) {
			names = append(names, name)
		}
	}
	return names
}

func portProtocolNumbers() []string {
	var numbers []string
	for _, name := range portProtocolNames() {
		number, _ := protocolNumber(name)
		numbers = append(numbers, strconv.Itoa(int(number)))
	}
	return numbers
}

func portProtocolNumber() *schema {
	low, high := uint32(ProtocolTCP), uint32(ProtocolUDPLite)
	return &schema{Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high, Pattern: whole(alternatives(portProtocolNumbers()))}
}

// serviceValue is tcp, tcp/25 or tcp/1000-2000; what has no ports names none.
func serviceValue() *schema {
	ported := alternatives(append(portProtocolNames(), portProtocolNumbers()...))
	low, high := uint32(0), uint32(math.MaxUint8)
	return &schema{
		Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high,
		Pattern: whole(ported + "(?:/" + portsPattern() + ")?|" + alternatives(protocolNames()) + "|" + byteNumber),
	}
}

func icmpTypeNames() []string {
	var names []string
	for _, t := range icmpTypes() {
		names = append(names, t.Name)
	}
	return names
}

// durationValue has hours, minutes and seconds, each at most once and in this
// order.
func durationValue() *schema {
	h, m, s := "(?:"+digits+")h", "(?:"+digits+")m", "(?:"+digits+")s"
	return &schema{Type: "string", Pattern: whole(h + "(?:" + m + ")?(?:" + s + ")?|" + m + "(?:" + s + ")?|" + s)}
}

func rateTextShape() *schema {
	return &schema{Type: "string", Pattern: whole("[1-9][0-9]{0,9}/" + alternatives(rateUnits()))}
}

// prefixTextShape follows prefixProblem.
func prefixTextShape() *schema { return text(`^[ !#%-\[\]-~]{1,63}$`) }

// markValue is a number of 32 bits, and a mask of as many.
func markValue(low uint32) *schema {
	const bits = "(?:0[xX][0-9a-fA-F]+|0|[1-9][0-9]{0,9})"
	high := uint32(math.MaxUint32)
	return &schema{Type: []string{"integer", "string"}, Minimum: &low, Maximum: &high, Pattern: whole(bits + "(?:/" + bits + ")?")}
}
