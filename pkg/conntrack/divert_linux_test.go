package conntrack

import (
	"testing"

	"golang.org/x/sys/unix"
)

// entries are all connections of the namespace.
func entries(t *testing.T, c *Conn) (out []Flow) {
	t.Helper()
	if err := c.List(&Filter{}, func(f *Flow) bool { out = append(out, *f); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

// What the answering side sends next has the address that its peer knows, and
// not the port, whether it has sent something meanwhile or not.
func TestDivert(t *testing.T) {
	c := open(t)
	var all []Diversion
	for i, ends := range [][3]string{{"198.51.100.9", "203.0.113.2", "192.168.1.10"}, {"2001:db8::9", "2001:db8::2", "fd00:1::10"}} {
		for k, protocol := range []uint8{ProtocolTCP, unix.IPPROTO_UDP} {
			f := flow(protocol, ends[0], ends[1])
			f.Original.SourcePort += uint16(2*i + k)
			f.Original.DestinationPort = []uint16{443, 40000}[k]
			f.Reply = reverse(f.Original)
			create(t, c, f, "", ends[2])
		}
	}
	other := flow(ProtocolTCP, "198.51.100.10", "203.0.113.2")
	create(t, c, other, "", "192.168.1.10")
	for _, f := range entries(t, c) {
		if f.Original.Source != other.Original.Source {
			all = append(all, Diversion{f, 5000, 5999})
		}
	}
	diverted := func() {
		t.Helper()
		found := 0
		for _, g := range entries(t, c) {
			for _, f := range all {
				if g.Original != f.Reply || g.Protocol != f.Protocol {
					continue
				}
				found++
				if g.Reply.Source != f.Original.Source || g.Reply.Destination != f.Original.Destination || g.Reply.DestinationPort < f.First || g.Reply.DestinationPort > f.Last || !g.SNAT() {
					t.Errorf("%s was diverted to %s", f, g)
				}
			}
		}
		if n := len(entries(t, c)); found != len(all) || n != len(all)+1 {
			t.Errorf("%d of %d are diverted, of %d entries", found, len(all), n)
		}
	}
	if n, err := c.Divert(all); err != nil || n != len(all) {
		t.Errorf("%d of %d: %v", n, len(all), err)
	}
	diverted()

	// The other side was faster: what it has opened is like the old one.
	for _, g := range entries(t, c) {
		if g.SNAT() {
			if err := c.Delete(g); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range all {
		create(t, c, Flow{Family: f.Family, Protocol: f.Protocol, Original: f.Reply, Reply: reverse(f.Reply), Timeout: f.Timeout}, f.Original.Destination.String(), "")
	}
	if n, err := c.Divert(all); err != nil || n != 0 {
		t.Errorf("%d were there: %v", n, err)
	}
	diverted()
}

// A kernel's refusal is told.
func TestDivertRefused(t *testing.T) {
	c := open(t)
	f := flow(ProtocolTCP, "198.51.100.9", "203.0.113.2")
	create(t, c, f, "", "192.168.1.10")
	f = entries(t, c)[0]
	f.Reply.Destination = addr("2001:db8::9") // of another family
	if _, err := c.Divert([]Diversion{{f, 1024, 65535}}); err == nil {
		t.Error("no error")
	}
}
