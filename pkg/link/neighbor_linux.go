package link

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbors lists the neighbours of the calling thread's network namespace, in
// the order of interfaces and addresses. Nobody is asked.
func Neighbors() ([]Neighbor, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer handle.Close()
	links, err := dump(handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := dump(func() ([]netlink.Neigh, error) { return handle.NeighList(0, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var out []Neighbor
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if !ok || names[n.LinkIndex] == "" {
			continue
		}
		x := Neighbor{Interface: names[n.LinkIndex], Address: a.Unmap(), State: NeighborState(n.State)}
		if !x.State.Silent() {
			x.MAC = n.HardwareAddr.String()
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Neighbor) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Address.Compare(b.Address))
	})
	return out, nil
}
