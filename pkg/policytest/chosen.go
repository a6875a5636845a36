package policytest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// chosen looks whether all that the kernel may choose is expected: a test that
// passes by luck is none.
func (e *Expect) chosen(o *simulate.Outcome) []Difference {
	if !passed(o.Verdict) {
		return nil
	}
	var out []Difference
	differ := func(field, expected string, of []string) {
		const most = 4
		got := "any of " + strings.Join(of[:min(len(of), most)], ", ")
		if len(of) > most {
			got += " and " + strconv.Itoa(len(of)-most) + " more"
		}
		out = append(out, Difference{Place: e.at.of(field, e.Place), Field: field, Expected: expected, Got: got + ", as the kernel chooses"})
	}
	for _, c := range o.Choices {
		if c.Kept {
			continue
		}
		switch c.What {
		case simulate.SourceAddress:
			if !e.Source.hasAll(c.Of) {
				differ("source", e.Source.String(), c.Of)
			}
		case simulate.SourcePort:
			if !e.SourcePort.hasAll(c.Of) {
				differ("source_port", e.SourcePort.String(), c.Of)
			}
		case simulate.Target:
			if !e.Destination.hasAll(c.Of) {
				differ("destination", e.Destination.String(), c.Of)
			}
		case simulate.TargetPort:
			if !e.Port.hasAll(c.Of) {
				differ("port", e.Port.String(), c.Of)
			}
		}
	}
	return out
}

// hasAll says whether each of several addresses and ranges is expected. Ports
// behind an address are passed over.
func (a Addresses) hasAll(of []string) bool {
	if len(a.List) == 0 && !a.Same {
		return true
	}
	for _, text := range of {
		low, high, ok := addressRange(text)
		if ok && (a.Same || !covers(a.List, low, high)) {
			return false
		}
	}
	return true
}

// covers says whether all of a range is in a list of ranges, which may lie side
// by side.
func covers(list []policy.Address, low, high netip.Addr) bool {
	for at := low; ; {
		i := slices.IndexFunc(list, func(x policy.Address) bool {
			return x.Low.IsValid() && x.Low.Is4() == at.Is4() && !at.Less(x.Low) && !x.High.Less(at)
		})
		switch {
		case i < 0:
			return false
		case !list[i].High.Less(high):
			return true
		}
		at = list[i].High.Next()
	}
}

func addressRange(text string) (low, high netip.Addr, ok bool) {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr(), a.Addr(), true
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := netip.ParseAddr(first)
	high, err2 := netip.ParseAddr(last)
	return low, high, err == nil && err2 == nil
}

func (p Ports) hasAll(of []string) bool {
	if len(p.List) == 0 && !p.Same {
		return true
	}
	for _, text := range of {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil {
			continue
		}
		if !coversPorts(p.List, low, high) {
			return false
		}
	}
	return true
}

func coversPorts(list []policy.Ports, low, high uint64) bool {
	for low <= high {
		i := slices.IndexFunc(list, func(x policy.Ports) bool { return uint64(x.First) <= low && low <= uint64(x.Last) })
		if i < 0 {
			return false
		}
		low = uint64(list[i].Last) + 1
	}
	return true
}
