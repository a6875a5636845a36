//go:build linux

package nfnetlink

import "testing"

func TestComment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ userdata, want string }{
		{"", ""}, {"\x00", ""}, {"\x00\x03hi\x00", "hi"}, {"\x00\x02hi", "hi"},
		{"\x01\x04abcd\x00\x03hi\x00", "hi"}, {"\x00\x09hi\x00", ""}, {"\x01\x01a", ""},
	} {
		if got := Comment([]byte(c.userdata)); got != c.want {
			t.Errorf("%q has the comment %q, want %q", c.userdata, got, c.want)
		}
	}
}
