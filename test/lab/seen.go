package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Seen is what a server saw of a client.
type Seen struct {
	Peer  netip.AddrPort // the client, after every translation on the way
	Local netip.AddrPort // the server's own address, after every translation on the way
	Name  string         // which server answered: the name of its host, or what [As] says
}

// String is the line that servers send.
func (s Seen) String() string {
	return fmt.Sprintf("peer=%s local=%s name=%s", s.Peer, s.Local, s.Name)
}

// ParseSeen reads the line that a lab's servers send first. It ignores what follows the line.
func ParseSeen(text string) (Seen, error) {
	line, _, _ := strings.Cut(text, "\n")
	var s Seen
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "peer":
			s.Peer, err = netip.ParseAddrPort(value)
		case "local":
			s.Local, err = netip.ParseAddrPort(value)
		case "name":
			s.Name = value
		}
		if err != nil {
			return Seen{}, fmt.Errorf("read greeting %q: %w", line, err)
		}
	}
	if !s.Peer.IsValid() || !s.Local.IsValid() {
		return Seen{}, fmt.Errorf("read greeting %q: no peer or no local address", line)
	}
	return s, nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
