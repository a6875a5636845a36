//go:build linux

package nfnetlink

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// written has an attribute of each kind, and nests two deep.
func written() *Encoder {
	e := &Encoder{}
	e.Uint8(1, 0xab)
	e.Uint16(2, 0xabcd)
	e.Uint32(3, 0x01020304)
	e.Uint64(4, 0x0102030405060708)
	e.Bytes(5, []byte{1, 2, 3, 4, 5})
	e.Bytes(6, nil)
	e.String(7, "forward")
	outer := e.Open(8)
	inner := e.Open(1)
	e.String(1, "x")
	e.Close(inner)
	e.Close(outer)
	raw := binary.NativeEndian.AppendUint16(nil, unix.NLA_HDRLEN+1)
	e.Raw(append(binary.NativeEndian.AppendUint16(raw, 9), 0xff))
	return e
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	e := written()
	if e.Len()%4 != 0 || e.Len() != len(e.Written()) {
		t.Errorf("%d bytes, Len %d", len(e.Written()), e.Len())
	}
	want := [][]byte{
		{0xab}, {0xab, 0xcd}, {1, 2, 3, 4}, {1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 3, 4, 5}, {}, []byte("forward\x00"), nil, {0xff},
	}
	i := 0
	for a := Attributes(e.Written()); a.Next(); i++ {
		if int(a.Type()) != i+1 {
			t.Errorf("attribute %d has type %d", i, a.Type())
		}
		if want[i] != nil && !bytes.Equal(a.Bytes(), want[i]) {
			t.Errorf("attribute %d is %x, want %x", a.Type(), a.Bytes(), want[i])
		}
		switch a.Type() {
		case 3:
			if a.Uint32() != 0x01020304 || a.Uint64() != 0 {
				t.Errorf("numbers %x and %x", a.Uint32(), a.Uint64())
			}
		case 4:
			if a.Uint64() != 0x0102030405060708 {
				t.Errorf("number %x", a.Uint64())
			}
		case 6:
			if a.Uint32() != 0 || a.String() != "" {
				t.Errorf("nothing is %d, %q", a.Uint32(), a.String())
			}
		case 7:
			if a.String() != "forward" {
				t.Errorf("string %q", a.String())
			}
		case 8:
			inner := Attributes(a.Bytes())
			if !inner.Next() || inner.Type() != 1 {
				t.Fatal("nothing nested")
			}
			if x := Attributes(inner.Bytes()); !x.Next() || x.String() != "x" || x.Next() {
				t.Error("nothing nested two deep")
			}
		}
	}
	if i != len(want) {
		t.Errorf("%d attributes, want %d", i, len(want))
	}
}

// TestTypeFlags guards against types that the flag bits make unknown.
func TestTypeFlags(t *testing.T) {
	t.Parallel()
	for _, flag := range []uint16{unix.NLA_F_NESTED, unix.NLA_F_NET_BYTEORDER} {
		e := &Encoder{}
		e.Uint8(5|flag, 1)
		if a := Attributes(e.Written()); !a.Next() || a.Type() != 5 {
			t.Errorf("flag %x: type %d", flag, a.Type())
		}
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	whole := written().Written()
	for n := range whole {
		walk(whole[:n], 4)
		// Any length in the first attribute.
		p := bytes.Clone(whole)
		binary.NativeEndian.PutUint16(p, uint16(n))
		walk(p, 4)
	}
	for n := range 4 {
		p := []byte{byte(n), 0, 1, 0, 0, 0, 0, 0}
		if a := Attributes(p); a.Next() {
			t.Errorf("an attribute of length %d", n)
		}
	}
}

// walk reads attributes in every way and gives how many there are.
func walk(p []byte, depth int) int {
	n := 0
	for a := Attributes(p); a.Next(); n++ {
		_, _, _, _ = a.Type(), a.Uint32(), a.Uint64(), a.String()
		if depth > 0 {
			n += walk(a.Bytes(), depth-1)
		}
	}
	return n
}

func FuzzAttributes(f *testing.F) {
	f.Add(written().Written())
	f.Add([]byte{3, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0, 0, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		n := 0
		for a := Attributes(p); a.Next(); n++ {
			if len(a.Bytes()) > len(p)-4 {
				t.Fatalf("a value of %d bytes out of %d", len(a.Bytes()), len(p))
			}
		}
		if n > len(p)/4 {
			t.Fatalf("%d attributes in %d bytes", n, len(p))
		}
		walk(p, 3)
	})
}

func FuzzMessages(f *testing.F) {
	b := &Batch{}
	b.Message(unix.NFT_MSG_NEWTABLE, 0, unix.NFPROTO_INET)
	b.String(unix.NFTA_TABLE_NAME, "x")
	b.finish()
	f.Add(b.MessageBytes(0))
	f.Add([]byte{16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte("\x24\x00\x00\x00\x02\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff" +
		"\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		for total := 0; len(p) > 0; {
			m, rest, err := First(p)
			if err != nil {
				return
			}
			if len(rest) >= len(p) {
				t.Fatal("no progress")
			}
			p = rest
			total += len(m.Body)
			walk(m.Attributes(), 3)
			generation(m)
			for _, flags := range []uint16{m.Flags, unix.NLM_F_ACK_TLVS, unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED} {
				m.Flags = flags
				if e := parseError(m); e.Error() == "" {
					t.Fatal("an error without a text")
				}
			}
		}
	})
}

func TestParseError(t *testing.T) {
	t.Parallel()
	tlvs := &Encoder{}
	tlvs.String(unix.NLMSGERR_ATTR_MSG, "not this one")
	offset := tlvs.Open(unix.NLMSGERR_ATTR_OFFS)
	tlvs.Raw(binary.NativeEndian.AppendUint32(nil, 44))
	tlvs.Close(offset)
	errno := unix.ENOENT
	code := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	request := make([]byte, 32)
	binary.NativeEndian.PutUint32(request, 30) // padded in the answer
	for name, m := range map[string]Message{
		"capped": {Flags: unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED, Body: join(code, request[:16], tlvs.Written())},
		"whole":  {Flags: unix.NLM_F_ACK_TLVS, Body: join(code, request, tlvs.Written())},
	} {
		e := parseError(m)
		if e.Errno != unix.ENOENT || e.Text != "not this one" || e.Offset != 44 || e.Message != -1 {
			t.Errorf("%s: %+v", name, e)
		}
		if !strings.HasSuffix(e.Error(), ": not this one") {
			t.Errorf("%s: %v", name, e)
		}
	}
	if e := parseError(Message{Body: code}); e.Errno != unix.EBADMSG {
		t.Errorf("a truncated error is %v", e)
	}
	if e := parseError(Message{Body: join(code, request[:16])}); e.Errno != unix.ENOENT || e.Text != "" {
		t.Errorf("an error without details is %+v", e)
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// FirstAttribute goes the way that an Iterator goes, over anything.
func TestFirstAttribute(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	walked := 0
	for range 20_000 {
		e := &Encoder{}
		for range r.IntN(5) {
			e.Bytes(uint16(r.IntN(1<<16)), make([]byte, r.IntN(9)))
		}
		p := e.buf[:len(e.buf)-min(r.IntN(6), len(e.buf))]
		if len(p) > 0 && r.IntN(2) == 0 {
			p[r.IntN(len(p))] = byte(r.IntN(256))
		}
		a := Attributes(p)
		for typ, value, rest := FirstAttribute(p); rest != nil; typ, value, rest = FirstAttribute(rest) {
			if !a.Next() || a.Type() != typ || !bytes.Equal(a.Bytes(), value) {
				t.Fatalf("% x: %d: % x, and an iterator has %d: % x", p, typ, value, a.Type(), a.Bytes())
			}
			walked++
		}
		if a.Next() {
			t.Fatalf("% x: an iterator goes on with %d", p, a.Type())
		}
	}
	if walked < 20_000 {
		t.Errorf("%d attributes were there to be walked", walked)
	}
}
