// Package draft writes a first policy for a host, from what the host is now: a
// commented text that is valid, safe to apply and meant to be edited.
//
// It asks the host nothing; what it is to know comes in as a [Host]. It leaves
// `input` out, so that no apply of a draft can close the host to whoever made
// it, and lets nothing in from outside.
package draft

import (
	"errors"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// ErrNoLinks is returned for a host that has no interface but its loopback.
var ErrNoLinks = errors.New("the host has no interface but lo: there is nothing to write a policy for")

// Host is what a policy is drafted from.
type Host struct {
	link.Facts
	// Neighbors are for examples: those that have answered.
	Neighbors []link.Neighbor
	// Session is the connection that somebody works over, or nil.
	Session *Session
}

// Session is the client's end and the host's of an SSH connection.
type Session struct{ Client, Server netip.AddrPort }

// Draft is a policy, and what its reader has to know that a comment is not
// enough for.
type Draft struct {
	Text  []byte
	Hints []string
}

// Write drafts a policy. Every draft parses, and compiles on its host without
// a warning.
func Write(h Host) (Draft, error) {
	s, err := survey(h)
	if err != nil {
		return Draft{}, err
	}
	w := &writer{surveyed: s}
	w.head()
	w.zones()
	w.masquerade()
	w.portForward()
	w.forward()
	w.input()
	return Draft{Text: w.text.Bytes(), Hints: s.hints}, nil
}
