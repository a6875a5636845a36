package policy

import (
	"encoding/binary"
	"fmt"
	mathbits "math/bits"
	"net/netip"
	"strings"
)

// String gives the address as a policy writes it: one address, the prefix or
// the range that it is, @name or gateway.
func (a Address) String() string {
	switch {
	case a.Gateway:
		return "gateway"
	case a.Set != "":
		return "@" + a.Set
	case a.Low == a.High:
		return a.Low.String()
	}
	if p, ok := asPrefix(a.Low, a.High); ok {
		return p.String()
	}
	return a.Low.String() + "-" + a.High.String()
}

// asPrefix gives the prefix that covers exactly low to high, if there is one.
func asPrefix(low, high netip.Addr) (netip.Prefix, bool) {
	for bits := 0; bits <= low.BitLen(); bits++ {
		p := netip.PrefixFrom(low, bits)
		if p.Masked().Addr() == low && LastOf(p) == high {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// LastOf is the highest address of a prefix.
func LastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		setHostBits(a[:], p.Bits())
		return netip.AddrFrom4(a)
	}
	a := p.Addr().As16()
	setHostBits(a[:], p.Bits())
	return netip.AddrFrom16(a)
}

func setHostBits(a []byte, bits int) {
	for i := range a {
		switch {
		case bits >= 8*(i+1):
		case bits <= 8*i:
			a[i] = 0xff
		default:
			a[i] |= 0xff >> (bits - 8*i)
		}
	}
}

// Where an address list stands decides which words it may hold.
type addressWords uint8

const (
	setNames      addressWords = 1 << iota // @name
	gatewayWord                            // gateway
	poolAddresses                          // public addresses, each written out
)

const addressesTake = "an address, a prefix, a range, \"@set\" or a list of these"

// addresses decodes a list of addresses.
func (d *decoder) addresses(n *node, words addressWords) []Address {
	var list []Address
	d.each(n, func(n *node) {
		if a, ok := d.address(n, words); ok {
			list = append(list, a)
		}
	})
	return list
}

func (d *decoder) address(n *node, words addressWords) (Address, bool) {
	text, ok := d.text(n)
	if !ok {
		return Address{}, false
	}
	a := Address{Place: d.at(n)}
	switch {
	case text == "":
		d.fail(a.Place, fmt.Sprintf("an address in `%s` is empty", d.key))
		return a, false
	case text == "gateway" && words&gatewayWord != 0:
		a.Gateway = true
		return a, true
	case text == "gateway":
		d.fail(a.Place, fmt.Sprintf("`gateway` may stand in `destinations` and `except_destinations` only, not in `%s`", d.key))
		return a, false
	case text == "any":
		d.fail(a.Place, fmt.Sprintf("`any` is not an address; leave `%s` out to match every address", d.key))
		return a, false
	case strings.HasPrefix(text, "@") && words&poolAddresses != 0:
		d.fail(a.Place, fmt.Sprintf("a pool has no sets, since the order of its addresses counts; write the addresses of %s out", quote(text)))
		return a, false
	case strings.HasPrefix(text, "@") && words&setNames == 0:
		d.fail(a.Place, "a set cannot hold another set; list the addresses, or name both sets where they are used")
		return a, false
	case text == "@":
		d.fail(a.Place, "the name of a set is missing after the @")
		return a, false
	case strings.HasPrefix(text, "@"):
		a.Set = text[1:]
		return a, true
	}
	var problem string
	a.Low, a.High, problem = parseRange(text)
	if problem != "" {
		d.fail(a.Place, problem)
		if words&setNames != 0 && nameProblem(text) == "" {
			d.bareNames = append(d.bareNames, bareName{d.errs[len(d.errs)-1], text})
		}
		return a, false
	}
	return a, true
}

// parseRange reads an address, a prefix or a range of addresses; problem says
// what is wrong with it, or is empty.
func parseRange(text string) (low, high netip.Addr, problem string) {
	from, to, isRange := strings.Cut(text, "-")
	slash := strings.IndexByte(text, '/')
	switch {
	case !isRange && slash < 0:
		low, problem = parseAddr(text)
		return low, low, problem
	case !isRange:
		return parsePrefix(text, slash)
	}
	low, problem = parseAddr(strings.TrimSpace(from))
	if problem == "" {
		high, problem = parseAddr(strings.TrimSpace(to))
	}
	switch {
	case problem != "" && slash >= 0 && !strings.ContainsAny(text, "@ "):
		problem = fmt.Sprintf("%s is not a range: one runs from an address to an address, without prefix lengths", quote(text))
	case problem != "" && !low.IsValid() && !dottedQuad(from), problem != "" && low.IsValid() && !high.IsValid() && !dottedQuad(to):
		problem = notAddress(text) // no address has a hyphen, but a name has
	case problem != "":
	case low.Is4() != high.Is4():
		problem = fmt.Sprintf("the range %s mixes IPv4 and IPv6; write two ranges", quote(text))
	case high.Less(low):
		problem = fmt.Sprintf("the range %s runs backwards; write %s-%s", quote(text), high, low)
	}
	return low, high, problem
}

func notAddress(text string) string {
	if strings.HasPrefix(text, "!") {
		return fmt.Sprintf("%s: there is no `!` here; what is not meant stands in `except_sources` or `except_destinations`", quote(text))
	}
	return fmt.Sprintf("%s is not an address, a prefix or a range; names of hosts are not looked up", quote(text))
}

func parsePrefix(text string, slash int) (low, high netip.Addr, problem string) {
	addr, problem := parseAddr(text[:slash])
	if problem != "" {
		return addr, addr, problem
	}
	bits, ok := parseNumber(text[slash+1:], addr.BitLen())
	if length := maskLength(text[slash+1:]); !ok && addr.Is4() && length >= 0 {
		return addr, addr, fmt.Sprintf("%s has a mask in place of a prefix length; write %s/%d", quote(text), addr, length)
	}
	if !ok {
		return addr, addr, fmt.Sprintf("the prefix length of %s is not a number from 0 to %d", quote(text), addr.BitLen())
	}
	p := netip.PrefixFrom(addr, bits)
	if masked := p.Masked(); masked.Addr() != addr {
		return addr, addr, fmt.Sprintf("%s has bits set beyond its prefix length; write %s for the network, or %s for the one address", quote(text), masked, addr)
	}
	return addr, LastOf(p), ""
}

// maskLength gives the prefix length of a mask as 255.255.255.0, or -1.
func maskLength(text string) int {
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return -1
	}
	bytes := mask.As4()
	bits := binary.BigEndian.Uint32(bytes[:])
	length := mathbits.LeadingZeros32(^bits)
	if bits<<length != 0 {
		return -1
	}
	return length
}

// parseAddr reads one address.
func parseAddr(text string) (addr netip.Addr, problem string) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil && dottedQuad(text):
		return addr, fmt.Sprintf("%s is not an IPv4 address: it takes four numbers from 0 to 255, without leading zeros", quote(text))
	case err != nil:
		return addr, notAddress(text)
	case addr.Zone() != "":
		return addr, fmt.Sprintf("%s names an interface; write the address alone, and name the interface in a zone", quote(text))
	case addr.Is4In6():
		return addr, fmt.Sprintf("%s is an IPv4 address in IPv6 clothes, which no packet carries; write %s", quote(text), addr.Unmap())
	}
	return addr, ""
}

// dottedQuad is true for what was meant to be an IPv4 address.
func dottedQuad(text string) bool {
	for i := range len(text) {
		if c := text[i]; c != '.' && (c < '0' || c > '9') {
			return false
		}
	}
	return strings.IndexByte(text, '.') > 0
}

// parseNumber reads a decimal number from 0 to highest, without a sign or
// leading zeros.
func parseNumber(text string, highest int) (int, bool) {
	if text == "" || len(text) > 9 || len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, n <= highest
}
