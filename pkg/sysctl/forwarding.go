package sysctl

import (
	"errors"
	"fmt"
	"strings"
)

const (
	forwardIPv4 = "net/ipv4/ip_forward"
	forwardIPv6 = "net/ipv6/conf/all/forwarding"
)

// Forwarding is which families the policy needs the host to forward.
type Forwarding struct {
	IPv4, IPv6 bool
}

// Change is one sysctl that is touched. Name is in slash form.
//
// Where Before and After are the same there is nothing to write now: it is
// remembered because turning forwarding off again would overwrite it, or is no
// longer to be remembered.
type Change struct {
	Name   string
	Before string
	After  string
	Why    string
	Kind   Kind
	// Last is what an earlier apply had written, of a change that may have been
	// killed before it wrote After; else "".
	Last string
}

// Kind says how long a change lasts.
type Kind uint8

// The kinds of change.
const (
	Forwards Kind = iota // forwarding needs it: until delete
	Sets                 // the policy says the value: as long as it does
	Releases             // it no longer does
)

// Ours says whether a value is one that ipmasq has written, or found.
func (c Change) Ours(value string) bool {
	return value == tidy(c.After) || value == tidy(c.Before) || c.Last != "" && value == tidy(c.Last)
}

// Writes is whether applying the change writes anything.
func (c Change) Writes() bool { return c.Before != c.After }

// HasIPv6 says whether the kernel has IPv6: one that was booted with
// ipv6.disable=1 has none of its sysctls, for any namespace.
func HasIPv6() bool {
	_, err := Get(forwardIPv6)
	return !errors.Is(err, ErrAbsent)
}

// ForwardingChanges is what must be written, in order, for the host to
// forward; empty when it does already. Links are the interfaces that hold a
// default route learned from a router advertisement.
//
// What is on stays untouched: writing ip_forward sets every interface's
// forwarding, and writing IPv6 forwarding, even the value it has, drops
// advertised default routes. Those survive where accept_ra is 2 before
// forwarding goes on, so these changes come first (net/ipv6/addrconf.c,
// addrconf_fixup_forwarding, rt6_purge_dflt_routers).
//
// The list also holds what the kernel will overwrite on the way back and could
// not be told from our own doing then, see [Change.Writes] and [Restore].
func ForwardingChanges(want Forwarding, links []string) ([]Change, error) {
	var changes []Change
	if want.IPv4 {
		more, err := switchChanges(forwardIPv4, "the policy forwards IPv4", nil)
		if err != nil {
			return nil, fmt.Errorf("plan IPv4 forwarding: %w", err)
		}
		changes = append(changes, more...)
	}
	if want.IPv6 {
		more, err := switchChanges(forwardIPv6, "the policy forwards IPv6", links)
		if err != nil {
			return nil, fmt.Errorf("plan IPv6 forwarding: %w", err)
		}
		changes = append(changes, more...)
	}
	return changes, nil
}

// switchChanges turns one forwarding switch on, if it is off.
func switchChanges(name, why string, links []string) ([]Change, error) {
	now, err := Get(name)
	if err != nil {
		return nil, err
	}
	if now != "0" {
		return nil, nil
	}
	var changes []Change
	for _, link := range links {
		acceptRA := "net/ipv6/conf/" + link + "/accept_ra"
		value, err := Get(acceptRA)
		switch {
		case errors.Is(err, ErrAbsent):
			continue
		case err != nil:
			return nil, err
		case value == "1":
			changes = append(changes, Change{Name: acceptRA, Before: value, After: "2",
				Why: "forwarding would drop the default route that a router advertises on " + link})
		}
	}
	effects, err := sideEffects(name)
	if err != nil {
		return nil, err
	}
	for _, effect := range effects {
		if effect.on != "" && effect.now != effect.off {
			changes = append(changes, Change{Name: effect.name, Before: effect.now, After: effect.on,
				Why: "turning " + name + " off again overwrites it"})
		}
	}
	return append(changes, Change{Name: name, Before: now, After: "1", Why: why}), nil
}

// effect is a sysctl that the kernel writes when a forwarding switch is
// written: on and off are what it gets with the switch ("" for untouched), now
// what it held when it was read.
type effect struct {
	name, on, off string
	now           string
}

// sideEffects is what the kernel overwrites with a forwarding switch, as it
// stands now. Seen on 6.18 by comparing all of /proc/sys/net, and to be read
// in inet_forward_change (net/ipv4/devinet.c) and addrconf_forward_change
// (net/ipv6/addrconf.c). It is empty for any other sysctl.
func sideEffects(name string) ([]effect, error) {
	var effects []effect
	var conf string
	var perLink []effect
	switch name {
	case forwardIPv4:
		conf = "net/ipv4/conf/"
		perLink = []effect{{name: "forwarding", on: "1", off: "0"}}
		effects = []effect{{name: "net/ipv4/conf/all/accept_redirects", on: "0", off: "1"}}
	case forwardIPv6:
		conf = "net/ipv6/conf/"
		perLink = []effect{
			{name: "forwarding", on: "1", off: "0"},
			{name: "force_forwarding", on: "", off: "0"}, // since Linux 6.17
		}
	default:
		return nil, nil
	}
	links, err := children(strings.TrimSuffix(conf, "/"))
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if link == "all" {
			continue // the switch itself
		}
		for _, e := range perLink {
			effects = append(effects, effect{name: conf + link + "/" + e.name, on: e.on, off: e.off})
		}
	}
	present := effects[:0]
	for _, e := range effects {
		if e.now, err = Get(e.name); errors.Is(err, ErrAbsent) {
			continue
		} else if err != nil {
			return nil, err
		}
		present = append(present, e)
	}
	return present, nil
}
