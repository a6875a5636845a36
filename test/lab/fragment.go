package lab

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Fragment cuts an IP packet into fragments of at most mtu bytes, in order, even where the packet forbids it.
// A packet that fits comes back alone. It panics on what is not an IP packet, and on an mtu without room.
func Fragment(packet []byte, mtu int) [][]byte {
	if len(packet) <= mtu {
		return [][]byte{packet}
	}
	p, err := DecodeIP(packet)
	if err != nil {
		panic("lab: fragment: " + err.Error())
	}
	header := 20
	if p.Src.Is4() {
		header = int(packet[0]&15) * 4
	} else {
		header = 48 // with the fragment header
	}
	step := (mtu - header) &^ 7
	if step <= 0 {
		panic(fmt.Sprintf("lab: fragment: no room in an mtu of %d", mtu))
	}
	if p.Src.Is4() {
		return fragmentIPv4(packet, header, step)
	}
	return fragmentIPv6(packet, step)
}

func fragmentIPv4(packet []byte, header, step int) [][]byte {
	var fragments [][]byte
	for at := header; at < len(packet); at += step {
		end := min(at+step, len(packet))
		f := append(append([]byte(nil), packet[:header]...), packet[at:end]...)
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		if binary.BigEndian.Uint16(f[4:]) == 0 {
			binary.BigEndian.PutUint16(f[4:], 0x1ab0) // an identifier of 0 is legal, but hard to read
		}
		position := uint16((at - header) / 8)
		if end < len(packet) {
			position |= 0x2000
		}
		binary.BigEndian.PutUint16(f[6:], position)
		binary.BigEndian.PutUint16(f[10:], 0)
		binary.BigEndian.PutUint16(f[10:], ^fold(sum(0, f[:header])))
		fragments = append(fragments, f)
	}
	return fragments
}

// fragmentIPv6 takes all that follows the fixed header as the part that is cut.
func fragmentIPv6(packet []byte, step int) [][]byte {
	var fragments [][]byte
	for at := 40; at < len(packet); at += step {
		end := min(at+step, len(packet))
		f := append([]byte(nil), packet[:40]...)
		f[6] = unix.IPPROTO_FRAGMENT
		position := uint16(at - 40)
		if end < len(packet) {
			position |= 1
		}
		f = append(f, packet[6], 0, byte(position>>8), byte(position), 0, 0, 0x1a, 0xb0)
		f = append(f, packet[at:end]...)
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
		fragments = append(fragments, f)
	}
	return fragments
}
