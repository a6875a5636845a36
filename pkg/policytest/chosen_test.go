package policytest

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

func addresses(list ...string) Addresses {
	var out Addresses
	for i := 0; i < len(list); i += 2 {
		out.List = append(out.List, policy.Address{Low: netip.MustParseAddr(list[i]), High: netip.MustParseAddr(list[i+1])})
	}
	return out
}

// All that may be chosen has to be expected, in whatever parts either is written.
func TestHasAll(t *testing.T) {
	side := addresses("192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::9")
	for _, c := range []struct {
		want Addresses
		of   []string
		has  bool
	}{
		{Addresses{}, []string{"192.0.2.1"}, true},
		{Addresses{Same: true}, []string{"192.0.2.1"}, false},
		{side, []string{"192.0.2.1-192.0.2.3"}, true},
		{side, []string{"192.0.2.1-192.0.2.4"}, false},
		{side, []string{"192.0.2.0-192.0.2.3"}, false},
		{side, []string{"192.0.2.3", "192.0.2.1"}, true},
		{side, []string{"192.0.2.3:80", "[2001:db8::1]:80"}, true},
		{side, []string{"192.0.2.4:80"}, false},
		{side, []string{"2001:db8::1-2001:db8::9"}, true},
		{side, []string{"2001:db8::1-2001:db8::a"}, false},
		{addresses("0.0.0.0", "255.255.255.255"), []string{"0.0.0.0-255.255.255.255"}, true},
	} {
		if got := c.want.hasAll(c.of); got != c.has {
			t.Errorf("%s has all of %v: %v", c.want, c.of, got)
		}
	}
	for _, c := range []struct {
		want Ports
		of   string
		has  bool
	}{
		{Ports{}, "1024-65535", true},
		{Ports{Same: true}, "1024-65535", false},
		{Ports{List: []policy.Ports{{First: 2000, Last: 3000}, {First: 1, Last: 1999}}}, "1024-2024", true},
		{Ports{List: []policy.Ports{{First: 2001, Last: 3000}, {First: 1, Last: 1999}}}, "1024-2024", false},
		{Ports{List: []policy.Ports{{First: 1, Last: 65535}}}, "1024-65535", true},
		{Ports{List: []policy.Ports{{First: 80, Last: 80}}}, "80", true},
	} {
		if got := c.want.hasAll([]string{c.of}); got != c.has {
			t.Errorf("%s has all of %s: %v", c.want, c.of, got)
		}
	}
}
