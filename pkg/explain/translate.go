package explain

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// fromMap is what an element says of a translation.
func fromMap(s *set, i int, n ruleset.NAT) ruleset.NAT {
	low := s.DataAt(i)
	high := low
	if s.DataInterval {
		low, high = low[:len(low)/2], low[len(low)/2:]
	}
	size := s.Data[0].Size()
	n.Low, _ = netip.AddrFromSlice(low[:size])
	n.High, _ = netip.AddrFromSlice(high[:size])
	if len(s.Data) == 2 {
		size = s.Data[0].Padded()
		n.PortMin, n.PortMax = binary.BigEndian.Uint16(low[size:]), binary.BigEndian.Uint16(high[size:])
	}
	return n
}

// translate gives the packet a new source or destination.
func (w *Walker) translate(kind ruleset.ActionKind, n ruleset.NAT, origin *ruleset.Origin) {
	f := &w.frame
	own, port, to := f.p.Source, f.p.SourcePort, &w.result.SNAT
	became, becamePort := f.p.Became.Source, f.p.Became.SourcePort
	destination := kind == ruleset.DNAT || kind == ruleset.Redirect
	if destination {
		own, port, to = f.p.Destination, f.p.DestinationPort, &w.result.DNAT
		became, becamePort = f.p.Became.Destination, f.p.Became.DestinationPort
	}
	given := f.p.Became.Destination.IsValid()
	var among bool
	if kind == ruleset.Redirect && f.p.In != "" && !w.redirects() {
		w.result.Verdict, w.result.By = ruleset.Drop, origin
		return
	}
	switch kind {
	case ruleset.SNATToDest:
		n.Low, n.High = f.first.Destination, f.first.Destination
		among = became == n.Low
	case ruleset.Masquerade, ruleset.Redirect:
		if among = given && w.borrows(kind, became); among {
			n.Low = became
		} else {
			n.Low = w.lends(kind)
		}
	default:
		if n.Prefix {
			w.ByHostBits = true
			n.Low = mapped(own, n.Low, n.High)
			n.High = n.Low
		}
		among = given && n.Low.Is4() == became.Is4() && n.Low.Compare(became) <= 0 && became.Compare(n.High) <= 0
	}
	if among && f.ported {
		switch {
		case n.PortMin != 0:
			among = n.PortMin <= becamePort && becamePort <= n.PortMax
		case destination:
			among = becamePort == port
		}
		// A source's port that the rule does not name is kept where it is free,
		// and any other where it is not.
	}
	*to = Translation{Kind: kind, Origin: origin, Allowed: among || !given, Address: n.Low, Port: port, Offers: n}
	switch {
	case among:
		to.Address, to.Port = became, becamePort
	case !destination && !n.Random && !n.FullyRandom && n.Low.IsValid() && n.Low.Is4() == own.Is4() && n.Low.Compare(own) <= 0 && own.Compare(n.High) <= 0 &&
		(!f.ported || n.PortMin == 0 || n.PortMin <= port && port <= n.PortMax):
		to.Address = own // what it may become it stays (get_unique_tuple)
	case n.PortMin != 0 && (port < n.PortMin || port > n.PortMax || destination):
		to.Port = n.PortMin
	}
	w.result.Verdict = ruleset.Accept
	w.become(destination, to.Address, to.Port)
	if !destination && (n.Random || n.FullyRandom) && (f.ported || f.p.Protocol == 1 || f.p.Protocol == 58) {
		f.setStatus(ruleset.CtSNAT) // it has another port or identifier, if not another address
	}
}

// borrows says whether masquerade, or redirect, can have given an address.
func (w *Walker) borrows(kind ruleset.ActionKind, a netip.Addr) bool {
	p := &w.frame.p
	switch {
	case kind == ruleset.Masquerade:
		return w.host.Holds(p.Out, a, p.Destination)
	case p.In == "":
		return a == loopback(a)
	}
	return w.host.Holds(p.In, a, p.Destination)
}

// lends gives the first address that masquerade, or redirect, would take.
func (w *Walker) lends(kind ruleset.ActionKind) netip.Addr {
	p := &w.frame.p
	switch {
	case kind == ruleset.Masquerade:
		return w.host.Address(p.Out, p.Destination)
	case p.In == "":
		return loopback(p.Destination)
	}
	a := w.host.Address(p.In, p.Destination)
	if !w.held(a) && a.Is6() { // makes do with that of the link
		a = w.host.Address(p.In, netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1}))
	}
	return a
}

// redirects says whether the interface has an address to redirect to: what
// comes in where there is none is dropped (nf_nat_redirect_ipv4).
func (w *Walker) redirects() bool { return w.held(w.lends(ruleset.Redirect)) }

func (w *Walker) held(a netip.Addr) bool {
	return a.IsValid() && (w.Guess || w.host.LocalOn(a, w.frame.p.In))
}

// loopback is what a redirect of the host's own packets leads to
// (nf_nat_redirect_ipv4, nf_nat_redirect_ipv6).
func loopback(family netip.Addr) netip.Addr {
	if family.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// mapped gives an address of a prefix the host bits of another.
func mapped(own, low, high netip.Addr) netip.Addr {
	if own.Is4() {
		a, l, h := own.As4(), low.As4(), high.As4()
		for i := range a {
			a[i] = l[i] | a[i]&(l[i]^h[i])
		}
		return netip.AddrFrom4(a)
	}
	a, l, h := own.As16(), low.As16(), high.As16()
	for i := range a {
		a[i] = l[i] | a[i]&(l[i]^h[i])
	}
	return netip.AddrFrom16(a)
}

// become gives the packet an address and port, which conntrack knows of where
// they are others.
func (w *Walker) become(destination bool, a netip.Addr, port uint16) {
	f := &w.frame
	if !a.IsValid() {
		return
	}
	switch {
	case destination:
		if f.p.Destination != a || f.ported && f.p.DestinationPort != port {
			f.setStatus(ruleset.CtDNAT)
		}
		f.p.Destination, f.p.DestinationPort = a, port
		f.destination()
	default:
		if f.p.Source != a || f.ported && f.p.SourcePort != port {
			f.setStatus(ruleset.CtSNAT)
		}
		f.p.Source, f.p.SourcePort = a, port
		f.source()
		f.reply = a
		f.asked &^= 1<<ruleset.CtReplyIPDaddr | 1<<ruleset.CtReplyIP6Daddr
	}
}

// foreign takes over a translation that no rule made: that of a source, or of
// a destination.
func (w *Walker) foreign(destination bool) {
	f := &w.frame
	became := &f.p.Became
	if !became.Destination.IsValid() || f.noTrack {
		return
	}
	if destination {
		if w.result.DNAT.Kind == ruleset.Continue && (became.Destination != f.p.Destination || f.ported && became.DestinationPort != f.p.DestinationPort) {
			w.result.DNAT = Translation{Foreign: true, Address: became.Destination, Port: became.DestinationPort}
			w.become(true, became.Destination, became.DestinationPort)
		}
		return
	}
	if w.result.SNAT.Kind != ruleset.Continue {
		return
	}
	switch {
	case became.Source != f.p.Source:
		w.result.SNAT = Translation{Foreign: true, Address: became.Source, Port: became.SourcePort}
		w.become(false, became.Source, became.SourcePort)
	default:
		w.rebound()
	}
}

// rebound takes over another source port, which the kernel chooses by itself
// where two flows would be one (nf_nat_alloc_null_binding).
func (w *Walker) rebound() {
	f := &w.frame
	if became := &f.p.Became; f.ported && !f.noTrack && became.SourcePort != f.p.SourcePort {
		w.become(false, became.Source, became.SourcePort)
	}
}

// setAddress writes an address that conntrack does not know of.
func (w *Walker) setAddress(fields []ruleset.Field) {
	f := &w.frame
	var a netip.Addr
	if len(fields) == 2 {
		v, ok := w.value(fields[1], fields[1].Type().Size())
		if !ok {
			return
		}
		a, _ = netip.AddrFromSlice(v)
	}
	switch fields[0] {
	case ruleset.IPSaddr, ruleset.IPDaddr:
		if !a.IsValid() {
			a = netip.IPv4Unspecified()
		}
	default:
		if !a.IsValid() {
			a = netip.IPv6Unspecified()
		}
	}
	switch fields[0] {
	case ruleset.IPSaddr, ruleset.IP6Saddr:
		f.p.Source = a
		f.source()
	case ruleset.IPDaddr, ruleset.IP6Daddr:
		f.p.Destination = a
		f.destination()
	}
}
