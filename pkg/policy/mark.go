package policy

import (
	"fmt"
	"math"
	"strings"
)

// String gives the mark as a policy writes it.
func (m Mark) String() string {
	if m.Mask == math.MaxUint32 {
		return fmt.Sprintf("%#x", m.Value)
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

const markTakes = "a mark as 0x1, or with the bits that it may change as 0x1/0xff"

// packetMark decodes a packet mark.
func (d *decoder) packetMark(n *node) (Mark, bool) {
	text, ok := d.text(n)
	if !ok {
		return Mark{}, false
	}
	m, problem := parseMark(text)
	if problem != "" {
		d.failAt(deref(n), problem)
		return m, false
	}
	m.Place = d.at(deref(n))
	return m, true
}

func parseMark(text string) (m Mark, problem string) {
	value, mask, masked := strings.Cut(text, "/")
	var ok bool
	if m.Value, ok = parseBits(value); !ok {
		return m, notMark(text)
	}
	m.Mask = math.MaxUint32
	if masked {
		if m.Mask, ok = parseBits(mask); !ok {
			return m, notMark(text)
		}
	}
	switch {
	case m.Mask == 0:
		return m, fmt.Sprintf("the mask of %s is 0, so the mark changes nothing; write the bits that it may change", quote(text))
	case m.Value&^m.Mask != 0:
		return m, fmt.Sprintf("the mark %s has bits that its mask leaves out; write %#x/%#x, or %#x/%#x", quote(text),
			m.Value&m.Mask, m.Mask, m.Value, m.Value|m.Mask)
	}
	return m, ""
}

func notMark(text string) string {
	return fmt.Sprintf("%s is not a mark; write a number of 32 bits as 0x1, or with a mask as 0x1/0xff", quote(text))
}

// parseBits reads a number of 32 bits, decimal or with 0x.
func parseBits(text string) (uint32, bool) {
	if hex, isHex := strings.CutPrefix(strings.ToLower(text), "0x"); isHex {
		return parseUint32(hex, 16)
	}
	return parseUint32(text, 10)
}
