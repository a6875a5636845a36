package explain

import (
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// isLocal says whether the packet is for the host. What many hosts share is for
// it too, as far as it comes from others; it sends to groups by an interface.
func (w *Walker) isLocal() bool {
	d, in := w.frame.p.Destination, w.frame.first.In
	k := w.host.Kind(d)
	switch {
	case in != "" && d.Is6() && d.IsLinkLocalUnicast():
		return w.host.LocalOn(d, in)
	case k == ruleset.RTNLocal || k == ruleset.RTNAnycast:
		return true
	}
	return in != "" && w.shared(d)
}

func (w *Walker) shared(a netip.Addr) bool {
	k := w.host.Kind(a)
	return k == ruleset.RTNBroadcast || k == ruleset.RTNMulticast || a.IsMulticast()
}

// unheard says whether the kernel takes a packet for broken before any hook: of
// IPv6, one from or to loopback, or from a group (ip6_rcv_core).
func unheard(p *Packet) bool {
	return p.Source.Is6() && (p.Source.IsMulticast() || p.Source.IsLoopback() || p.Destination.IsLoopback())
}

// martian says whether routing refuses the ends of an IPv4 packet
// (ip_route_input_slow, fib_validate_source). Source routing filters are taken
// to be off.
func (w *Walker) martian() bool {
	p := &w.frame.p
	if !p.Source.Is4() {
		return false
	}
	s, d := p.Source.As4(), p.Destination.As4()
	everybody := d == [4]byte{255, 255, 255, 255} || s == [4]byte{} && d == [4]byte{}
	switch {
	case p.Source.IsMulticast(), s == [4]byte{255, 255, 255, 255}:
		return true
	case p.Destination.IsMulticast():
		// Groups are joined from anywhere.
	case !everybody && (s == [4]byte{} || d == [4]byte{} || s[0] == 127 || d[0] == 127):
		return true
	}
	return w.host.Kind(p.Source) == ruleset.RTNLocal
}

// staysBehind says whether the kernel does not hand on what is not for the host:
// what was sent to all on a link, whatever it has become, and of IPv6 what comes
// from nowhere, or from an address of one link to another (ip_forward,
// ip6_forward).
func (w *Walker) staysBehind(out string) bool {
	p := &w.frame.p
	if w.shared(w.frame.first.Destination) {
		return true
	}
	return p.Source.Is6() && out != p.In && (p.Source.IsUnspecified() || p.Source.IsLinkLocalUnicast())
}
