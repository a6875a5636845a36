package packet

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// leaks listens on the outside links for what should never be there: packets
// whose source is an inside address.
type leaks []*lab.Capture

// leaks begins to listen, on eth0 where no links are named.
func (g *gateway) leaks(_ *testing.T, links ...string) leaks {
	if len(links) == 0 {
		links = []string{g.Names.Uplink}
	}
	inside := lab.All(lab.Outgoing, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00:1::/64"), lab.SrcIn("fd00:2::/64")))
	var l leaks
	for _, link := range links {
		l = append(l, g.GW.Capture(link, inside))
	}
	return l
}

// none sees that there was nothing so far.
func (l leaks) none(t *testing.T) {
	t.Helper()
	for _, c := range l {
		if c.Sync(); c.Count() != 0 {
			t.Errorf("left untranslated: %v", c)
		}
	}
}

// stop ends the listening.
func (l leaks) stop() {
	for _, c := range l {
		c.Stop()
	}
}
