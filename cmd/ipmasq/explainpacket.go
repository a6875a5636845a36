package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// packetFlags describe a packet.
func packetFlags() []cli.Flag {
	text := func(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }
	return []cli.Flag{
		text("from", "it comes from `ZONE` (gateway: the host itself sends it); without it, from where the route to its source leads"),
		text("to", "it leaves to `ZONE`; without it, by the host's route, else by the only uplink"),
		text("interface", "it comes in by `NAME`; without it, by the interface of the zone that leads back to its source"),
		text("source", "it has the source `ADDRESS`, or address:port"),
		text("destination", "it is for `ADDRESS`, or address:port"),
		text("protocol", "it is of `PROTOCOL`: tcp, udp, icmp, ... or a number"),
		text("port", "it is for `PORT`"),
		text("source-port", "it is from `PORT` (default: "+strconv.Itoa(simulate.DefaultSourcePort)+")"),
		text("icmp-type", "it is of the ICMP `TYPE`: echo-request (the default), ... or a number"),
		text("state", "conntrack says `STATE` of it: new, established, related, invalid or untracked (default: what it says of a first packet)"),
		text("tcp-flags", "it has the TCP `FLAGS`, as syn,ack (default: syn, of established flows ack)"),
		text("mark", "it arrives with `MARK`, as 0x1"),
	}
}

// readPacket reads these flags. What the gateway knows, as zones, it checks
// itself.
func readPacket(c *cli.Context) (simulate.Packet, error) {
	p := simulate.Packet{From: c.String("from"), To: c.String("to"), Interface: c.String("interface")}
	bad := func(flag, why string) error { return usagef("--%s %s: %s", flag, shownValue(c.String(flag)), why) }
	ends := []struct {
		flag, port string
		to         *netip.Addr
		toPort     *uint16
	}{{"source", "source-port", &p.Source, &p.SourcePort}, {"destination", "port", &p.Destination, &p.DestinationPort}}
	for _, e := range ends {
		if text := c.String(e.flag); c.IsSet(e.flag) {
			a, port, ok := readEnd(text)
			if !ok {
				return p, bad(e.flag, "is not an address, as 192.0.2.7, 192.0.2.7:443 or [2001:db8::7]:443")
			}
			*e.to, *e.toPort = a, port
		}
		if c.IsSet(e.port) {
			n, err := readPort(c.String(e.port))
			if err != nil {
				return p, bad(e.port, "is not a port from 1 to 65535")
			}
			if *e.toPort != 0 && *e.toPort != n {
				return p, usagef("--%s says port %d, and --%s %d", e.flag, *e.toPort, e.port, n)
			}
			*e.toPort = n
		}
	}
	if c.IsSet("protocol") {
		list, err := readProtocol(c.String("protocol"))
		if err != nil {
			return p, bad("protocol", err.Error())
		}
		p.Protocol = list[0]
	}
	if c.IsSet("state") {
		if p.State = simulate.State(c.String("state")); p.State == 0 {
			return p, bad("state", notOneOf("state", c.String("state"), simulate.States(), "").Error())
		}
	}
	if c.IsSet("mark") {
		list, err := readMark(c.String("mark"))
		if err != nil {
			return p, bad("mark", err.Error())
		}
		p.Mark = list[0].value
	}
	if err := readICMP(c, &p); err != nil {
		return p, bad("icmp-type", err.Error())
	}
	if c.IsSet("tcp-flags") {
		var ok bool
		if p.TCPFlags, ok = simulate.Flags(c.String("tcp-flags")); !ok || p.Protocol != policy.ProtocolTCP {
			return p, bad("tcp-flags", "are flags of tcp: fin, syn, rst, psh, ack, urg, ece, cwr, with commas between them")
		}
	}
	if p.Protocol == 0 {
		return p, usagef("a packet has a protocol: --protocol tcp, udp, icmp, ...")
	}
	return p, nil
}

func readEnd(text string) (a netip.Addr, port uint16, ok bool) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap(), ap.Port(), ap.Port() != 0 && ap.Addr().Zone() == ""
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap(), 0, err == nil && a.Zone() == ""
}

// readICMP reads the type of a packet of ICMP, and whether it is one.
func readICMP(c *cli.Context, p *simulate.Packet) error {
	icmp := p.Protocol == policy.ProtocolICMP || p.Protocol == policy.ProtocolICMPv6
	if !icmp && !c.IsSet("icmp-type") {
		return nil
	}
	text := "echo-request"
	if c.IsSet("icmp-type") {
		text = c.String("icmp-type")
	}
	if p.Protocol == 0 {
		p.Protocol = policy.ProtocolICMP
		if p.Destination.Is6() {
			p.Protocol = policy.ProtocolICMPv6
		}
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		p.ICMPType = uint8(n)
		return nil
	}
	var names []string
	for _, t := range policy.ICMPTypes() {
		number := t.V4
		if p.Protocol == policy.ProtocolICMPv6 {
			number = t.V6
		}
		switch {
		case number < 0:
			continue
		case t.Name == text:
			p.ICMPType = uint8(number)
			return nil
		}
		names = append(names, t.Name)
	}
	return notOneOf("type of "+policy.ProtocolName(p.Protocol), text, names, " or a number from 0 to 255")
}
