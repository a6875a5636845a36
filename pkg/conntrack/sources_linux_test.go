package conntrack

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Sources gives what the whole listing gives of flows with a translated source,
// and nothing else, in both families.
func TestSources(t *testing.T) {
	c := open(t)
	create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.10", "198.51.100.1"), "203.0.113.7", "")
	create(t, c, flow(unix.IPPROTO_UDP, "192.168.1.11", "198.51.100.1"), "203.0.113.8", "192.168.1.99")
	create(t, c, flow(unix.IPPROTO_ICMP, "192.168.1.12", "198.51.100.1"), "203.0.113.9", "")
	create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.13", "198.51.100.1"), "", "192.168.1.99")
	create(t, c, flow(unix.IPPROTO_TCP, "192.168.1.14", "198.51.100.1"), "", "")
	create(t, c, flow(unix.IPPROTO_UDP, "fd00::10", "2001:db8::1"), "2001:db8::7", "")
	var got, want []string
	text := func(f Flow) string {
		return fmt.Sprint(f.Family, f.Protocol, f.Original.Source, f.Original.SourcePort, f.Original.Destination, f.Original.DestinationPort,
			f.Reply.Source, f.Reply.SourcePort, f.Reply.Destination, f.Reply.DestinationPort, f.Status)
	}
	for _, f := range translated(t, c) {
		if f.SNAT() {
			want = append(want, text(f))
		}
	}
	if err := Sources(func(f Flow) bool { got = append(got, text(f)); return true }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) != 4 || !slices.Equal(got, want) {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
	n := 0
	if err := Sources(func(Flow) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("%d flows after the first was enough (%v)", n, err)
	}
}

// A table larger than what the kernel sends at once comes whole.
func TestSourcesOfMany(t *testing.T) {
	c := open(t)
	const flows = 2000
	for i := range flows {
		f := flow(unix.IPPROTO_UDP, fmt.Sprintf("10.0.%d.%d", i/250, i%250), "198.51.100.1")
		create(t, c, f, "203.0.113.7", "")
	}
	seen := map[string]bool{}
	if err := Sources(func(f Flow) bool { seen[f.Original.Source.String()] = true; return true }); err != nil || len(seen) != flows {
		t.Errorf("%d flows, want %d (%v)", len(seen), flows, err)
	}
}

// What the kernel sends is read with care: it may be cut anywhere.
func TestSourcesCutShort(t *testing.T) {
	message := []byte{40, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 8, 0, 3, 0, 0, 0, 0, 16, 12, 0, 1, 128, 8, 0, 1, 128, 4, 0, 1, 0}
	for n := range message {
		if _, err := messages(message[:n], func(Flow) bool { return true }); n > 0 && err == nil {
			t.Errorf("%d bytes of a message were taken for one", n)
		}
	}
	if more, err := messages(message, func(f Flow) bool { t.Errorf("a flow without addresses: %v", f); return true }); err != nil || !more {
		t.Errorf("the message: %v, %v", more, err)
	}
}

func TestFailuresOfNone(t *testing.T) {
	if f, err := open(t).Failures(); err != nil || f != (Failures{}) {
		t.Errorf("%+v, %v", f, err)
	}
}
