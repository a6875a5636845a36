package compile

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Families stand in arrays of two, IPv4 first: an index is the family.

// familyIndex is the index of an address's family.
func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// familyOf gives the family of an index.
func familyOf(f int) ruleset.Family {
	if f == 0 {
		return ruleset.IPv4
	}
	return ruleset.IPv6
}

func familySuffix(f int) string {
	if f == 0 {
		return "_v4"
	}
	return "_v6"
}

func familyName(f int) string {
	if f == 0 {
		return "IPv4"
	}
	return "IPv6"
}

// narrowed is the family that an alternative is for: the zero value is both.
type narrowed ruleset.Family

func only(f int) narrowed { return narrowed(familyOf(f)) }

// index gives the index of the family, where it is one.
func (n narrowed) index() (f int, one bool) {
	switch ruleset.Family(n) {
	case ruleset.IPv4:
		return 0, true
	case ruleset.IPv6:
		return 1, true
	}
	return 0, false
}

// allows says whether the family of an index is in it.
func (n narrowed) allows(f int) bool { return n == 0 || n == only(f) }

// family narrows to the family that an entry names.
func family(f policy.Family) []alternative {
	switch f {
	case policy.IPv4:
		return []alternative{{family: only(0)}}
	case policy.IPv6:
		return []alternative{{family: only(1)}}
	}
	return anything()
}
