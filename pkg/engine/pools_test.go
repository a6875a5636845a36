package engine

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

// A pool is as large as its addresses, family by family.
func TestPoolSize(t *testing.T) {
	a := func(low, high string) policy.Address {
		return policy.Address{Low: netip.MustParseAddr(low), High: netip.MustParseAddr(high)}
	}
	p := newPool([]policy.Address{
		a("203.0.113.8", "203.0.113.8"), a("203.0.113.250", "203.0.114.5"), a("2001:db8::1", "2001:db8::1"), a("2001:db8:5::", "2001:db8:5:0:ffff:ffff:ffff:ffff"),
	})
	if p.IPv4.Addresses != 13 || p.IPv6.Addresses != 1<<64+1 {
		t.Errorf("%v and %v addresses", p.IPv4.Addresses, p.IPv6.Addresses)
	}
	if whole := newPool([]policy.Address{a("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}); whole.IPv6.Addresses != 1<<128 {
		t.Errorf("%v addresses", whole.IPv6.Addresses)
	}
	p.use(map[netip.Addr]bool{netip.MustParseAddr("203.0.113.8"): true, netip.MustParseAddr("2001:db8::1"): true, netip.MustParseAddr("2001:db8:5::1"): true})
	if p.InUse != 3 || p.IPv4.InUse != 1 || p.IPv6.InUse != 2 {
		t.Errorf("%d in use: %d and %d", p.InUse, p.IPv4.InUse, p.IPv6.InUse)
	}
}
