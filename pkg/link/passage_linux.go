package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The attributes of RTM_GETROUTE that tell a packet's ports (linux/rtnetlink.h).
const (
	rtaProtocol        = 27
	rtaSourcePort      = 28
	rtaDestinationPort = 29
)

// Leaves asks the kernel by which link the packet leaves, with the rules of
// routing that look at more than its destination. [ErrRefused] is in the error
// where it goes nowhere.
func (p *Passage) Leaves() (string, error) {
	in, err := net.InterfaceByName(p.In)
	if err != nil {
		return "", fmt.Errorf("route %s from %s: %w", p.Destination, p.Source, err)
	}
	family, to, from := unix.AF_INET, p.Destination.AsSlice(), p.Source.AsSlice()
	if p.Destination.Is6() {
		family = unix.AF_INET6
	}
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	bits := uint8(8 * len(to))
	request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Dst_len: bits, Src_len: bits}})
	add := func(attribute int, value []byte) { request.AddData(nl.NewRtAttr(attribute, value)) }
	add(unix.RTA_DST, to)
	add(unix.RTA_SRC, from)
	add(unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(in.Index)))
	if p.Mark != 0 {
		add(unix.RTA_MARK, binary.NativeEndian.AppendUint32(nil, p.Mark))
	}
	if p.Protocol == unix.IPPROTO_TCP || p.Protocol == unix.IPPROTO_UDP { // the kernel takes no other but those of ping
		add(rtaProtocol, []byte{p.Protocol})
		if p.SourcePort != 0 {
			add(rtaSourcePort, binary.BigEndian.AppendUint16(nil, p.SourcePort))
		}
		if p.DestinationPort != 0 {
			add(rtaDestinationPort, binary.BigEndian.AppendUint16(nil, p.DestinationPort))
		}
	}
	answers, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	refusals := []error{unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EINVAL, unix.EXDEV}
	if slices.ContainsFunc(refusals, func(e error) bool { return errors.Is(err, e) }) {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return "", fmt.Errorf("route %s from %s: %w", p.Destination, p.Source, err)
	}
	for _, m := range answers {
		if len(m) < unix.SizeofRtMsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
		if err != nil {
			return "", fmt.Errorf("route %s from %s: %w", p.Destination, p.Source, err)
		}
		for _, a := range attributes {
			if a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4 {
				out, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(a.Value)))
				if err != nil {
					return "", fmt.Errorf("route %s from %s: %w", p.Destination, p.Source, err)
				}
				return out.Name, nil
			}
		}
	}
	return "", nil
}
