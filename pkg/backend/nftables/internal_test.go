//go:build linux

package nftables

import (
	"bytes"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
)

// FuzzDumped guards the parsers of what the kernel dumps: somebody else may have
// put anything into our table.
func FuzzDumped(f *testing.F) {
	e := &nfnetlink.Encoder{}
	n := e.Open(1)
	e.Bytes(1, []byte{1, 2, 3, 4})
	e.Close(n)
	f.Add(e.Written())
	f.Add([]byte{0, 254, 1})
	f.Add(append([]byte{0, 254}, make([]byte, 254)...))
	f.Add(appendComment(appendOrder(nil, udataKeyOrder, 1), commentRule, "x"))
	f.Fuzz(func(_ *testing.T, p []byte) {
		comment(p)
		parseElement(p)
		parseChain(p)
		spec := parseSpec(p)
		again := parseSpec([]byte(spec.attributes()))
		_ = again.recordKey()
		accepted(append(p, "dynset\x00"...))
		counterValues(p)
		parseHelper(p)
		parseTimeout(p, p)
		parseFlowtable(p)
	})
}

func TestUserdata(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 127, 128, 200} {
		want := bytes.Repeat([]byte{'x'}, min(n, maxComment-1))
		p := appendOrder(nil, 5, 7)
		if got := comment(appendComment(p, commentRule, string(bytes.Repeat([]byte{'x'}, n)))); !bytes.Equal(got, want) {
			t.Errorf("a comment of %d bytes comes back as %q", n, got)
		}
	}
	// A length that 8 bits cannot add to.
	for _, n := range []int{253, 254, 255} {
		comment(append([]byte{commentRule, byte(n)}, make([]byte, n)...))
	}
}

func TestNeighboringKeys(t *testing.T) {
	t.Parallel()
	for _, c := range [][2][]byte{
		{{0, 0}, {0, 1}}, {{0, 0xff}, {1, 0}}, {{0xff, 0xff}, {0, 0}}, {{7}, {8}}, {{0, 0xff, 0xff}, {1, 0, 0}},
	} {
		up, down := bytes.Clone(c[0]), bytes.Clone(c[1])
		increment(up)
		decrement(down)
		if !bytes.Equal(up, c[1]) || !bytes.Equal(down, c[0]) {
			t.Errorf("%x is before %x; got %x and %x", c[0], c[1], up, down)
		}
	}
}
