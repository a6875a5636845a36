package link

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// All are listed, in order; who has answered is told from who was asked in vain.
func TestNeighbors(t *testing.T) {
	freshNetNS(t)
	index := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "peer0"})
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	wanted := []struct {
		address, mac, text string
		state              NeighborState
		silent, answered   bool
	}{
		{"192.168.1.3", mac.String(), "REACHABLE", NeighborReachable, false, true},
		{"192.168.1.20", mac.String(), "PERMANENT", NeighborPermanent, false, true},
		{"192.168.1.77", "", "FAILED", NeighborFailed, true, false},
		{"192.168.1.100", mac.String(), "NOARP", NeighborNoARP, false, false},
		{"fd00:1::10", mac.String(), "STALE", NeighborStale, false, true},
	}
	var want []Neighbor
	for _, w := range wanted {
		at := netip.MustParseAddr(w.address)
		must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: int(w.state), IP: at.AsSlice(), HardwareAddr: mac}))
		want = append(want, Neighbor{"lan0", at, w.mac, w.state})
		if s := w.state; s.String() != w.text || s.Silent() != w.silent || s.Answered() != w.answered {
			t.Errorf("%s is %s: silent %v, answered %v", w.text, s, s.Silent(), s.Answered())
		}
	}
	got, err := Neighbors()
	must(t, err)
	// The kernel may add its own multicast entries.
	got = slices.DeleteFunc(got, func(n Neighbor) bool { return n.Address.IsMulticast() })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
