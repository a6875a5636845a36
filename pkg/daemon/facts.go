package daemon

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// digest names what a plan depends on of the host. What changes all the time
// and matters to no policy (carriers, lifetimes of addresses) is not in it.
func digest(f link.Facts) [sha256.Size]byte {
	var text strings.Builder
	for _, l := range f.Links {
		fmt.Fprintln(&text, "link", l.Name, l.Up, l.PointToPoint, l.Kind)
		for _, a := range l.Addresses {
			fmt.Fprintln(&text, " ", a.Prefix)
		}
	}
	fmt.Fprintln(&text, f.Defaults)
	fmt.Fprintln(&text, f.Own, f.Connected, f.Hops, f.ForeignRules, f.ForeignTables, f.Local)
	return sha256.Sum256([]byte(text.String()))
}

// differences says what has changed on the host, for people. What it does not
// find words for is "routes".
func differences(before, after link.Facts) string {
	var out []string
	for _, l := range after.Links {
		old, there := before.Link(l.Name)
		switch {
		case !there:
			out = append(out, l.Name+" is new")
		case old.Up && !l.Up:
			out = append(out, l.Name+" went down")
		case !old.Up && l.Up:
			out = append(out, l.Name+" came up")
		}
		for _, a := range l.Addresses {
			if !slices.ContainsFunc(old.Addresses, func(b link.Address) bool { return a.Prefix == b.Prefix }) {
				out = append(out, fmt.Sprintf("%s has %s", l.Name, a.Prefix))
			}
		}
	}
	for _, l := range before.Links {
		now, there := after.Link(l.Name)
		if !there {
			out = append(out, l.Name+" is gone")
			continue
		}
		for _, a := range l.Addresses {
			if !slices.ContainsFunc(now.Addresses, func(b link.Address) bool { return a.Prefix == b.Prefix }) {
				out = append(out, fmt.Sprintf("%s no longer has %s", l.Name, a.Prefix))
			}
		}
	}
	if !slices.Equal(before.Defaults, after.Defaults) {
		out = append(out, "the default route is "+defaults(after))
	}
	if len(out) == 0 {
		return "routes"
	}
	if len(out) > 8 {
		out = append(out[:8], fmt.Sprintf("%d changes more", len(out)-8))
	}
	return strings.Join(out, ", ")
}

func defaults(f link.Facts) string {
	var out []string
	for _, r := range f.Defaults {
		if r.Table == link.MainTable {
			way := r.Interface
			if r.Gateway.IsValid() {
				way = r.Gateway.String() + " on " + way
			}
			out = append(out, way)
		}
	}
	if len(out) == 0 {
		return "gone"
	}
	return strings.Join(out, ", ")
}
