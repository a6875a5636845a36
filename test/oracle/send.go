package oracle

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// gateways counts those that were made, to spread them over processors.
var gateways atomic.Int32

// Verdict is what the kernel did with a packet.
type Verdict uint8

// The verdicts.
const (
	Dropped   Verdict = iota // it was never seen again, nor an answer
	Left                     // it left by a link
	Delivered                // it reached the gateway itself
	Answered                 // the gateway answered in the place of who it was for
)

// String says it in a sentence about a packet.
func (v Verdict) String() string {
	return [...]string{"is not seen again", "leaves", "is delivered to the gateway", "is answered by the gateway"}[v]
}

// Fate is what became of a packet.
type Fate struct {
	Verdict Verdict
	Link    string // that it left by
	Ends    Ends   // of the packet as it left or was delivered, or of the answer
	With    string // how it was answered
	Led     Ends   // behind the translation of its destination, where that was translated
	Mark    uint32 // of the packet, where it left or was delivered
	Twice   bool   // it was seen more than once
}

// String says it in a sentence about a packet.
func (f Fate) String() string {
	text := f.Verdict.String()
	switch f.Verdict {
	case Left:
		text += fmt.Sprintf(" by %s as %s", f.Link, f.Ends)
	case Delivered:
		text += fmt.Sprintf(" as %s", f.Ends)
	case Answered:
		text += " with " + f.With
		if f.Ends.Source.IsValid() {
			text += fmt.Sprintf(", %s", f.Ends)
		}
	}
	if f.Verdict == Dropped && f.Led.Destination.IsValid() {
		text += fmt.Sprintf(", having been led to %s", f.Led)
	}
	if f.Mark != 0 {
		text += fmt.Sprintf(" with the mark %#x", f.Mark)
	}
	if f.Twice {
		text += ", and was seen more than once"
	}
	return text
}

// chunk is how many packets are on their way at once: so many that what tells of
// them fits into the buffers that an ordinary user has.
const chunk = 24

// hops is how many links a packet and what answers it can have before it.
const hops = 6

// Send sends packets in order, those of the tags from the first on, and tells
// what became of each.
func (g *Gateway) Send(packets []*Packet, tag func(int) uint32) []Fate {
	g.t.Helper()
	fates := make([]Fate, len(packets))
	index := map[uint32]int{}
	for i := range packets {
		index[tag(i)] = i
	}
	sent := func(tag uint32) *Packet {
		if i, ok := index[tag]; ok {
			return packets[i]
		}
		return nil
	}
	for at := 0; at < len(packets); at += chunk {
		for i := at; i < min(at+chunk, len(packets)); i++ {
			g.must("send "+packets[i].String(), g.transmit(packets[i], tag(i)))
		}
		g.must("settle", g.lab.SettleHere(hops))
		g.collect(func(s seen, tell func(*Fate)) {
			if i, ok := index[s.tag]; ok {
				tell(&fates[i])
			}
		}, sent)
	}
	return fates
}

func (g *Gateway) transmit(p *Packet, tag uint32) error {
	b := p.bytes(tag)
	if p.In == "" {
		var to unix.Sockaddr = &unix.SockaddrInet4{Addr: p.toAddr4()}
		fd := g.raw[0]
		if p.Destination.Is6() {
			to, fd = &unix.SockaddrInet6{Addr: p.Destination.As16()}, g.raw[1]
		}
		err := unix.Sendto(fd, b, 0, to)
		// What the rules drop or the routes refuse, the sender is told of.
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		return err
	}
	w := g.links[p.In]
	to := &unix.SockaddrLinklayer{Protocol: etherOrder(unix.ETH_P_IP), Ifindex: w.far, Halen: 6}
	if p.Source.Is6() {
		to.Protocol = etherOrder(unix.ETH_P_IPV6)
	}
	copy(to.Addr[:], w.mac)
	if g.shared(p) {
		copy(to.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	return unix.Sendto(g.send, b, 0, to)
}

func (p *Packet) toAddr4() (a [4]byte) {
	if p.Destination.Is4() {
		a = p.Destination.As4()
	}
	return a
}

// shared says whether a packet is for several hosts of a link.
func (g *Gateway) shared(p *Packet) bool {
	const broadcast, multicast = 3, 5
	k := g.routes.Kind(p.Destination)
	return k == broadcast || k == multicast || p.Destination.IsMulticast()
}

// collect reads what was seen.
func (g *Gateway) collect(each func(s seen, tell func(*Fate)), sent func(uint32) *Packet) {
	g.t.Helper()
	for _, x := range g.seen.Logged() {
		s, ok := recognize(x.Packet.IP, sent)
		if !ok {
			continue
		}
		each(s, func(f *Fate) {
			switch {
			case x.Prefix == "led":
				f.Led = s.ends
			case x.Prefix == "marked":
				if s.with == "" {
					f.Mark = x.Mark
				}
			case s.with != "": // an answer to what the gateway itself sent
				f.answered(s)
			default:
				f.Mark = x.Mark
				f.at(Fate{Verdict: Delivered, Ends: s.ends})
			}
		})
	}
	for {
		n, from, err := unix.Recvfrom(g.receive, g.buffer, 0)
		if err == unix.EAGAIN {
			return
		}
		g.must("receive", err)
		address, ok := from.(*unix.SockaddrLinklayer)
		if !ok || n < 14 {
			continue
		}
		s, ok := recognize(g.buffer[14:n], sent)
		if !ok {
			continue
		}
		each(s, func(f *Fate) {
			if s.with != "" {
				f.answered(s)
				return
			}
			f.at(Fate{Verdict: Left, Link: g.byFar[address.Ifindex], Ends: s.ends})
		})
	}
}

// at notes where a packet has got to. On its way over lo it passes by twice.
func (f *Fate) at(x Fate) {
	x.Led, x.Mark, x.Twice = f.Led, f.Mark, f.Verdict != Dropped
	*f = x
}

func (f *Fate) answered(s seen) {
	f.at(Fate{Verdict: Answered, Ends: s.ends, With: s.with})
}

// tupleOf is what a flow that a packet opens is known by.
func tupleOf(p *Packet) tuple {
	t := tuple{p.Protocol, p.Ends, p.ICMPType}
	if p.Protocol != icmp4 && p.Protocol != icmp6 {
		t.icmpType = 0
	}
	if !hasPorts(p.Protocol) && !p.identified() {
		t.ends.SourcePort, t.ends.DestinationPort = 0, 0
	}
	return t
}

type tuple struct {
	protocol uint8
	ends     Ends
	icmpType uint8
}

func originalOf(f *conntrack.Flow) tuple { return direction(f, &f.Original) }
func replyOf(f *conntrack.Flow) tuple    { return direction(f, &f.Reply) }

func direction(f *conntrack.Flow, t *conntrack.Tuple) tuple {
	x := tuple{f.Protocol, endsOf(t), 0}
	switch f.Protocol {
	case icmp4, icmp6:
		x.icmpType, x.ends.SourcePort, x.ends.DestinationPort = t.ICMPType, t.ICMPID, 0
	case gre:
		x.ends.SourcePort, x.ends.DestinationPort = 0, 0
	}
	return x
}

func endsOf(t *conntrack.Tuple) Ends {
	return Ends{t.Source, t.Destination, t.SourcePort, t.DestinationPort}
}
