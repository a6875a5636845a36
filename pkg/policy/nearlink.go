package policy

import (
	"slices"
	"strings"
)

// NearestLink gives the link that a mistyped name of an interface most likely
// stands for, or "" where none is near. Interfaces come and go, so it is careful:
// eth2 is no eth1 that was mistyped, and eth0.100 no eth0.
func NearestLink(name string, links []string) string {
	stem := unnumbered(name)
	near := slices.DeleteFunc(slices.Clone(links), func(link string) bool {
		other := unnumbered(link)
		numbers := stem == other && stem != name && other != link
		part := strings.HasPrefix(name, link+".") || strings.HasPrefix(link, name+".")
		return numbers || part
	})
	return nearest(name, near)
}

func unnumbered(name string) string { return strings.TrimRight(name, "0123456789") }
