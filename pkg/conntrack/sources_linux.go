package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// Sources hands over the connections of the calling thread's network namespace
// whose source is translated, as they are read, until yield returns false. A
// table may hold a million: never more than a few hundred are in memory. A
// flow has its family, protocol, status, and of its tuples addresses and ports.
func Sources(yield func(Flow) bool) error {
	if err := sources(yield); err != nil {
		return fmt.Errorf("list connections with a translated source: %w", explain(err))
	}
	return nil
}

func sources(yield func(Flow) bool) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	question := header(ctGet, netfilter.ProtoUnspec)
	question.Flags = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	request, err := netfilter.MarshalNetlink(question, statusFilter(StatusSNAT, StatusSNAT))
	if err != nil {
		return err
	}
	request.Header.Length = uint32(unix.NLMSG_HDRLEN + len(request.Data))
	bytes, err := request.MarshalBinary()
	if err != nil {
		return err
	}
	if err := unix.Sendto(fd, bytes, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	room := make([]byte, 64<<10) // the kernel fills 32 KiB at most
	for {
		n, _, err := unix.Recvfrom(fd, room, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if more, err := messages(room[:n], yield); err != nil || !more {
			return err
		}
	}
}

// errShort says that the kernel sent less than its lengths say.
var errShort = errors.New("the kernel's answer is cut short")

// messages reads what was received at once, and says whether there is more to
// come and to be handed over.
func messages(b []byte, yield func(Flow) bool) (more bool, err error) {
	for len(b) > 0 {
		if len(b) < unix.NLMSG_HDRLEN {
			return false, errShort
		}
		length, kind := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return false, errShort
		}
		body := b[unix.NLMSG_HDRLEN:length]
		b = b[min((length+3)&^3, len(b)):]
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
					return false, unix.Errno(errno)
				}
			}
			return false, nil
		}
		if len(body) < nfgenLength {
			return false, errShort
		}
		f := readFlow(body[nfgenLength:])
		// Checked again here: kernels before 5.14 ignore the filter.
		if f.SNAT() && f.Original.Source.IsValid() && !yield(f) {
			return false, nil
		}
	}
	return true, nil
}

// nfgenLength is the length of struct nfgenmsg.
const nfgenLength = 4

// eachAttribute calls do with the attributes in b.
func eachAttribute(b []byte, do func(kind uint16, data []byte)) {
	for len(b) >= unix.NLA_HDRLEN {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < unix.NLA_HDRLEN || length > len(b) {
			return
		}
		do(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.NLA_HDRLEN:length])
		b = b[min((length+3)&^3, len(b)):]
	}
}

func readFlow(b []byte) Flow {
	f := Flow{Family: IPv4}
	eachAttribute(b, func(kind uint16, data []byte) {
		switch {
		case kind == ctaTupleOriginal:
			f.Protocol = readTuple(data, &f.Original)
		case kind == ctaTupleReply:
			readTuple(data, &f.Reply)
		case kind == ctaStatus && len(data) == 4:
			f.Status = Status(binary.BigEndian.Uint32(data))
		}
	})
	if f.Original.Source.Is6() {
		f.Family = IPv6
	}
	return f
}

func readTuple(b []byte, t *Tuple) (protocol uint8) {
	eachAttribute(b, func(kind uint16, data []byte) {
		switch kind {
		case ctaTupleIP:
			eachAttribute(data, func(kind uint16, data []byte) {
				a, _ := netip.AddrFromSlice(data)
				switch kind {
				case ctaIPv4Source, ctaIPv6Source:
					t.Source = a
				case ctaIPv4Destination, ctaIPv6Destination:
					t.Destination = a
				}
			})
		case ctaTupleProto:
			eachAttribute(data, func(kind uint16, data []byte) {
				switch {
				case kind == ctaProtoNumber && len(data) == 1:
					protocol = data[0]
				case kind == ctaProtoSourcePort && len(data) == 2:
					t.SourcePort = binary.BigEndian.Uint16(data)
				case kind == ctaProtoDestinationPort && len(data) == 2:
					t.DestinationPort = binary.BigEndian.Uint16(data)
				}
			})
		}
	})
	return protocol
}
