//go:build linux

package nfnetlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// sizeofGenmsg is the length of struct nfgenmsg.
const sizeofGenmsg = 4

// maxAttribute is the largest attribute, header included: its length is 16
// bits wide.
const maxAttribute = 0xffff

// Encoder appends netlink attributes to a buffer. Numbers are big endian,
// as nf_tables wants them.
type Encoder struct {
	buf []byte
	// overflown says that an attribute became longer than its length can
	// tell. What is written is then not to be sent.
	overflown bool
}

func (e *Encoder) begin(typ, flags uint16, seq uint32, family uint8, resource uint16) int {
	start := len(e.buf)
	e.buf = append(e.buf, 0, 0, 0, 0)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, typ)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, flags)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, seq)
	e.buf = append(e.buf, 0, 0, 0, 0)
	e.buf = append(e.buf, family, 0)
	e.buf = binary.BigEndian.AppendUint16(e.buf, resource)
	return start
}

func (e *Encoder) end(start int) {
	binary.NativeEndian.PutUint32(e.buf[start:], uint32(len(e.buf)-start))
}

func (e *Encoder) header(typ uint16, n int) {
	if n+unix.NLA_HDRLEN > maxAttribute {
		e.overflown = true
	}
	e.buf = binary.NativeEndian.AppendUint16(e.buf, uint16(n+unix.NLA_HDRLEN))
	e.buf = binary.NativeEndian.AppendUint16(e.buf, typ)
}

func (e *Encoder) pad() {
	for len(e.buf)%4 != 0 {
		e.buf = append(e.buf, 0)
	}
}

// Len is how many bytes have been written.
func (e *Encoder) Len() int { return len(e.buf) }

// Written is what has been written. It is valid until the next write.
func (e *Encoder) Written() []byte { return e.buf }

// Raw appends whole attributes as they are.
func (e *Encoder) Raw(p []byte) {
	e.buf = append(e.buf, p...)
	e.pad()
}

// Uint8 appends a byte.
func (e *Encoder) Uint8(typ uint16, v uint8) {
	e.header(typ, 1)
	e.buf = append(e.buf, v, 0, 0, 0)
}

// Uint16 appends a big-endian number.
func (e *Encoder) Uint16(typ uint16, v uint16) {
	e.header(typ, 2)
	e.buf = binary.BigEndian.AppendUint16(e.buf, v)
	e.buf = append(e.buf, 0, 0)
}

// Uint32 appends a big-endian number.
func (e *Encoder) Uint32(typ uint16, v uint32) {
	e.header(typ, 4)
	e.buf = binary.BigEndian.AppendUint32(e.buf, v)
}

// Uint64 appends a big-endian number.
func (e *Encoder) Uint64(typ uint16, v uint64) {
	e.header(typ, 8)
	e.buf = binary.BigEndian.AppendUint64(e.buf, v)
}

// Bytes appends bytes.
func (e *Encoder) Bytes(typ uint16, v []byte) {
	e.header(typ, len(v))
	e.buf = append(e.buf, v...)
	e.pad()
}

// String appends a string with its final zero byte.
func (e *Encoder) String(typ uint16, v string) {
	e.header(typ, len(v)+1)
	e.buf = append(e.buf, v...)
	e.buf = append(e.buf, 0)
	e.pad()
}

// Open starts a nested attribute; give what it returns to Close. The flag
// NLA_F_NESTED is left out, as in what the kernel dumps.
func (e *Encoder) Open(typ uint16) int {
	start := len(e.buf)
	e.header(typ, 0)
	return start
}

// Close ends a nested attribute.
func (e *Encoder) Close(start int) {
	if len(e.buf)-start > maxAttribute {
		e.overflown = true
	}
	binary.NativeEndian.PutUint16(e.buf[start:], uint16(len(e.buf)-start))
}

// Attributes walks the attributes in a buffer, in place:
//
//	for a := Attributes(p); a.Next(); {
//		switch a.Type() { ... }
//	}
//
// A truncated attribute ends the walk.
func Attributes(p []byte) Iterator { return Iterator{rest: p} }

// Iterator is a walk over attributes.
type Iterator struct {
	rest  []byte
	value []byte
	typ   uint16
}

// Next goes to the next attribute and says whether there is one.
func (i *Iterator) Next() bool {
	if len(i.rest) < unix.NLA_HDRLEN {
		return false
	}
	n := int(binary.NativeEndian.Uint16(i.rest))
	if n < unix.NLA_HDRLEN || n > len(i.rest) {
		return false
	}
	i.typ = binary.NativeEndian.Uint16(i.rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	i.value = i.rest[unix.NLA_HDRLEN:n]
	i.rest = i.rest[min((n+3)&^3, len(i.rest)):]
	return true
}

// FirstAttribute takes the first attribute off a buffer: its type without flag
// bits, its value and the rest. There is none where the rest is nil. It does what
// Iterator does, in registers, for those who look at millions.
func FirstAttribute(p []byte) (typ uint16, value, rest []byte) {
	if len(p) < unix.NLA_HDRLEN {
		return 0, nil, nil
	}
	n := int(binary.NativeEndian.Uint16(p))
	if n < unix.NLA_HDRLEN || n > len(p) {
		return 0, nil, nil
	}
	return binary.NativeEndian.Uint16(p[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), p[unix.NLA_HDRLEN:n], p[min((n+3)&^3, len(p)):]
}

// Type is the attribute's type without its flag bits.
func (i *Iterator) Type() uint16 { return i.typ }

// Bytes is the attribute's value. It shares the buffer.
func (i *Iterator) Bytes() []byte { return i.value }

// Uint32 is the value as a big-endian number; 0 where it is too short.
func (i *Iterator) Uint32() uint32 {
	if len(i.value) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(i.value)
}

// Uint64 is the value as a big-endian number; 0 where it is too short.
func (i *Iterator) Uint64() uint64 {
	if len(i.value) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(i.value)
}

// String is the value as a string without its final zero bytes.
func (i *Iterator) String() string {
	v := i.value
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1]
	}
	return string(v)
}
