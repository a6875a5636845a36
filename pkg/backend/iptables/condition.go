package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// slot is what an atom is about: iptables has one option for each but the last,
// and prints them in this order.
type slot uint8

const (
	source slot = iota
	destination
	input
	output
	protocol
	sourcePort
	destinationPort
	tcpOption
	flags
	match // an extension
)

// atom is one thing that a packet must be, or must not be.
type atom struct {
	slot  slot
	not   bool
	lo    netip.Addr // source, destination: a range
	hi    netip.Addr
	ports [2]uint16 // also of a match that is about the port that a flow was first sent to
	proto uint8
	text  string // input, output: a pattern; the last three: the option, with %s where "! " goes
}

func (a atom) negated() atom {
	a.not = !a.not
	return a
}

// condition is a conjunction of atoms.
type condition []atom

var errTwoInterfaces = errors.New("it has two conditions on one interface, of which iptables takes one")

// ported says whether a protocol has ports, and by which match.
func ported(p uint8) (module string, ok bool) {
	switch p {
	case 6:
		return "tcp", true
	case 17:
		return "udp", true
	case 132:
		return "sctp", true
	case 33, 136:
		return "multiport", true
	}
	return "", false
}

// protocols are those that have ports.
func protocols() []uint8 { return []uint8{6, 17, 33, 132, 136} }

// protocolName is how a protocol is written: by name where every iptables has
// the name within itself.
func protocolName(p uint8) string {
	switch p {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	case 136:
		return "udplite"
	}
	return fmt.Sprint(p)
}

// expand gives the condition for each protocol that it may mean, where it is
// about ports and names none.
func (c condition) expand() []condition {
	ports := false
	for _, a := range c {
		if a.slot == protocol && !a.not {
			return []condition{c}
		}
		ports = ports || a.slot == sourcePort || a.slot == destinationPort
	}
	if !ports {
		return []condition{c}
	}
	var out []condition
	for _, p := range protocols() {
		out = append(out, append(slices.Clone(c), atom{slot: protocol, proto: p}))
	}
	return out
}

// text gives the options; possible is false where no packet is like that.
func (c condition) text() (text string, possible bool, err error) {
	w := &words{front: make([]byte, 0, 256)}
	for _, s := range [2]slot{source, destination} {
		name, long := "-s", "-m iprange --src-range"
		if s == destination {
			name, long = "-d", "-m iprange --dst-range"
		}
		atoms, possible := simpler(c.of(s))
		if !possible {
			return "", false, nil
		}
		for _, a := range atoms {
			length, isPrefix := prefixOf(a.lo, a.hi)
			switch {
			case isPrefix && length == 0 && a.not:
				return "", false, nil
			case isPrefix && length == 0:
			case isPrefix && name != "":
				w.option("", name, a.not)
				w.front = append(strconv.AppendInt(append(a.lo.AppendTo(w.front), '/'), int64(length), 10), ' ')
				name = ""
			default:
				w.later(long[:len("-m iprange ")], long[len("-m iprange "):], a.not, a.lo.String()+"-"+a.hi.String())
			}
		}
	}
	for _, s := range [2]slot{input, output} {
		a, possible, err := oneInterface(c.of(s))
		if err != nil || !possible {
			return "", false, err
		}
		if name := "-i"; a != nil {
			if s == output {
				name = "-o"
			}
			w.option("", name, a.not)
			w.front = append(append(w.front, a.text...), ' ')
		}
	}
	p, possible, err := oneProtocol(c.of(protocol))
	if err != nil || !possible {
		return "", false, err
	}
	if p != nil {
		w.option("", "-p", p.not)
		w.front = append(append(w.front, protocolName(p.proto)...), ' ')
	}
	transport, possible := c.transport(p)
	if !possible {
		return "", false, nil
	}
	for _, t := range transport {
		w.front = append(append(w.front, t...), ' ')
	}
	w.front = append(w.front, w.back...)
	for i, a := range c {
		if a.slot != match || slices.Contains(c[:i], a) {
			continue
		}
		before, after, asks := strings.Cut(a.text, "%s")
		w.front = append(w.front, before...)
		if asks && a.not {
			w.front = append(w.front, "! "...)
		}
		w.front = append(append(w.front, after...), ' ')
	}
	return string(bytes.TrimSuffix(w.front, []byte{' '})), true, nil
}

// words are the options of a line, each with a space behind it; some come later.
type words struct{ front, back []byte }

func (w *words) option(module, name string, not bool) {
	w.front = append(w.front, module...)
	if not {
		w.front = append(w.front, "! "...)
	}
	w.front = append(append(w.front, name...), ' ')
}

func (w *words) later(module, name string, not bool, value string) {
	front := w.front
	w.front = w.back
	w.option(module, name, not)
	w.back, w.front = append(append(w.front, value...), ' '), front
}

// excludes says whether no packet is of the protocols of both conditions.
func (c condition) excludes(d condition) bool {
	for _, a := range c {
		for _, b := range d {
			if a.slot == protocol && b.slot == protocol && !(a.not && b.not) && (a.proto == b.proto) == (a.not != b.not) {
				return true
			}
		}
	}
	return false
}

// possible says whether a packet can be like that.
func (c condition) possible() bool {
	_, possible, err := c.text()
	return possible && err == nil
}

// of gives the atoms of a slot, each once.
func (c condition) of(s slot) []atom {
	first, n := 0, 0
	for i := range c {
		if c[i].slot == s {
			if n++; n == 1 {
				first = i
			}
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return c[first : first+1 : first+1]
	}
	var out []atom
	for _, a := range c[first:] {
		if a.slot == s && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// simpler reduces ranges of addresses: those that a packet must be in to the
// one that they have in common, and of those that it must not be in it keeps
// what that has any of.
func simpler(atoms []atom) ([]atom, bool) {
	in := -1
	for i := range atoms {
		switch {
		case atoms[i].not:
		case in < 0:
			in = i
		default:
			a := atoms[in]
			lo, hi, ok := overlap(a, atoms[i])
			if !ok {
				return nil, false
			}
			a.lo, a.hi = lo, hi
			atoms = slices.Clone(atoms)
			atoms[in] = a
		}
	}
	if in < 0 {
		return atoms, true
	}
	out := []atom{atoms[in]}
	for _, a := range atoms {
		if !a.not {
			continue
		}
		lo, hi, ok := overlap(atoms[in], a)
		if ok && lo == atoms[in].lo && hi == atoms[in].hi {
			return nil, false
		}
		if ok {
			out = append(out, a)
		}
	}
	return out, true
}

// transport gives what is asked of ports and flags.
func (c condition) transport(p *atom) (text []string, possible bool) {
	ports := []struct {
		name  string
		atoms []atom
	}{{"port", c.of(sourcePort)}, {"port", c.of(destinationPort)}}
	tcpFlags, possible := oneOfFlags(c.of(flags))
	if !possible {
		return nil, false
	}
	options := c.of(tcpOption)
	if len(ports[0].atoms)+len(ports[1].atoms)+len(tcpFlags)+len(options) == 0 {
		return nil, true
	}
	module, ok := "", false
	if p != nil && !p.not {
		module, ok = ported(p.proto)
	}
	if !ok || len(tcpFlags)+len(options) > 0 && module != "tcp" {
		return nil, false
	}
	var first, more []string
	for i, side := range []string{"s", "d"} {
		for _, a := range ports[i].atoms {
			not, span := "", strconv.Itoa(int(a.ports[0]))
			if a.not {
				not = "! "
			}
			switch {
			case a.ports[0] > a.ports[1]:
				return nil, false
			case a.ports == [2]uint16{0, 65535} && a.not:
				return nil, false
			case a.ports == [2]uint16{0, 65535}:
				continue
			case a.ports[0] != a.ports[1]:
				span = fmt.Sprintf("%d:%d", a.ports[0], a.ports[1])
			}
			used := slices.ContainsFunc(first, func(t string) bool { return strings.Contains(t, "--"+side+"port") })
			if module == "multiport" || used {
				more = append(more, "-m multiport "+not+"--"+side+"ports "+span)
			} else {
				first = append(first, not+"--"+side+"port "+span)
			}
		}
	}
	for _, a := range options {
		first = append(first, "--tcp-option "+a.text)
	}
	for i, a := range tcpFlags {
		not := ""
		if a.not {
			not = "! "
		}
		if i == 0 {
			first = append(first, not+"--tcp-flags "+a.text)
		} else {
			more = append(more, "-m tcp "+not+"--tcp-flags "+a.text)
		}
	}
	if len(first) > 0 {
		text = append(text, "-m "+module+" "+strings.Join(first, " "))
	}
	return append(text, more...), true
}

// oneInterface reduces patterns to one; nil is any.
func oneInterface(atoms []atom) (a *atom, possible bool, err error) {
	var yes *atom
	var no []atom
	for i := range atoms {
		x := &atoms[i]
		switch {
		case x.text == "+" && x.not:
			return nil, false, nil
		case x.text == "+":
		case x.not:
			no = append(no, *x)
		case yes == nil || covers(yes.text, x.text):
			yes = x
		case !covers(x.text, yes.text):
			return nil, false, nil
		}
	}
	if yes == nil {
		var widest []atom
		for _, x := range no {
			if !slices.ContainsFunc(no, func(y atom) bool { return y != x && covers(y.text, x.text) }) {
				widest = append(widest, x)
			}
		}
		switch len(widest) {
		case 0:
			return nil, true, nil
		case 1:
			return &widest[0], true, nil
		}
		return nil, false, errTwoInterfaces
	}
	for _, x := range no {
		if covers(x.text, yes.text) {
			return nil, false, nil
		}
		if covers(yes.text, x.text) {
			return nil, false, errTwoInterfaces
		}
	}
	return yes, true, nil
}

// covers says whether every name of pattern q is one of p.
func covers(p, q string) bool {
	if head, ok := strings.CutSuffix(p, "+"); ok {
		return strings.HasPrefix(q, head)
	}
	return p == q
}

func oneProtocol(atoms []atom) (a *atom, possible bool, err error) {
	for i := range atoms {
		x := &atoms[i]
		switch {
		case a == nil:
			a = x
		case a.not && x.not:
			return nil, false, errors.New("it excludes two protocols, of which iptables takes one")
		case !a.not && !x.not && a.proto != x.proto, a.not != x.not && a.proto == x.proto:
			return nil, false, nil
		case a.not:
			a = x
		}
	}
	return a, true, nil
}

// prefixOf says whether a range is a prefix, and how long.
func prefixOf(lo, hi netip.Addr) (length int, ok bool) {
	return prefixLength(lo.AsSlice(), hi.AsSlice())
}

// prefixLength is prefixOf of addresses as they stand in packets.
func prefixLength(lo, hi []byte) (length int, ok bool) {
	for i := range lo {
		differ := lo[i] ^ hi[i]
		if differ == 0 {
			length += 8
			continue
		}
		// From here on lo has zeros alone and hi ones.
		if differ&(differ+1) != 0 || lo[i]&differ != 0 {
			return 0, false
		}
		for j := i + 1; j < len(lo); j++ {
			if lo[j] != 0 || hi[j] != 0xff {
				return 0, false
			}
		}
		return length + bits.LeadingZeros8(differ), true
	}
	return length, true
}

// prefixes splits a range.
func prefixes(lo, hi netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for {
		n := lo.BitLen()
		for n > 0 {
			p := netip.PrefixFrom(lo, n-1)
			if p.Masked().Addr() != lo || hi.Less(lastOf(p)) {
				break
			}
			n--
		}
		p := netip.PrefixFrom(lo, n)
		out = append(out, p)
		last := lastOf(p)
		if !last.Less(hi) {
			return out
		}
		lo = last.Next()
	}
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
