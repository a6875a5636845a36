package top

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// many is a table whose flows are deleted by their ID, and which gives a new
// one for each, as a host does that goes on sending.
type many struct {
	flows []conntrack.Flow
	anew  uint32
	lists int
}

func (m *many) List(_ *conntrack.Filter, yield func(*conntrack.Flow) bool) error {
	m.lists++
	for i := range m.flows {
		if !yield(&m.flows[i]) {
			return nil
		}
	}
	return nil
}

func (m *many) DeleteAll(list []conntrack.Flow) (n int, err error) {
	gone := map[uint32]bool{}
	for _, f := range list {
		gone[f.ID] = true
	}
	var left []conntrack.Flow
	for _, f := range m.flows {
		if gone[f.ID] {
			n++
			m.anew++
			f.ID = m.anew
		}
		left = append(left, f)
	}
	m.flows = left
	return n, nil
}

// A kill takes the flows of a row that were seen, all of them, and neither
// those of other rows, nor those that come anew, nor the session it runs over.
func TestKill(t *testing.T) {
	const n = 2*killChunk + 100
	source := &many{anew: 1 << 24}
	for i := range n {
		f := tcp(uint32(i), "192.168.1.10:4000", "198.51.100.9:443", 1, 1)
		f.Original.SourcePort, f.Original.DestinationPort = uint16(i), uint16(i>>16)
		source.flows = append(source.flows, f)
	}
	source.flows = append(source.flows, tcp(n, "192.168.1.11:4000", "198.51.100.9:443", 1, 1))
	s := newSampler(&Options{Source: source, Spare: func(f *conntrack.Flow) bool { return f.ID == 77 }})
	r := s.read(t.Context(), Question{})
	rows, _ := r.sample.Rows(ByHost, Question{Sort: Name})
	late := tcp(n+1, "192.168.1.10:4000", "198.51.100.1:443", 1, 1) // after the listing
	source.flows = append(source.flows, late)
	source.lists = 0

	k := killed{row: rows[0]}
	if err := s.kill(t.Context(), &k); err != nil || k.flows != n-1 || k.spared != 1 {
		t.Errorf("killed %d of %d, spared %d (%v)", k.flows, n-1, k.spared, err)
	}
	if source.lists != 3 {
		t.Errorf("%d listings for %d flows", source.lists, n)
	}
	for _, id := range []uint32{77, n, n + 1} {
		if !slices.ContainsFunc(source.flows, func(f conntrack.Flow) bool { return f.ID == id }) {
			t.Errorf("flow %d is gone", id)
		}
	}
	if text := k.String(); text != "killed 40099 flows of host 192.168.1.10; spared the session that this is run over" {
		t.Error(text)
	}

	one := killed{row: Row{Key: Key{View: ByFlow}, Flows: 1, Flow: &conntrack.Flow{ID: 77, Original: conntrack.Tuple{Source: netip.IPv4Unspecified()}}}}
	if err := s.kill(t.Context(), &one); err != nil || one.flows != 0 || !strings.HasPrefix(one.String(), "spared") {
		t.Errorf("the session itself: %v (%v)", one, err)
	}
	one.row.Flow.ID, one.spared = 5, 0 // killed before
	if err := s.kill(t.Context(), &one); err != nil || one.flows != 0 || !strings.HasPrefix(one.String(), "gone already") {
		t.Errorf("one that has ended: %v (%v)", one, err)
	}
}
