package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// NFLog hears what rules of a host log to a group of nflog.
type NFLog struct {
	fd  int
	lab *Lab
}

// Logged is a packet as a rule has logged it.
type Logged struct {
	Prefix string
	Mark   uint32
	Packet Packet
}

// The kernel's names (linux/netfilter/nfnetlink_log.h).
const (
	nfulnlMsgPacket = unix.NFNL_SUBSYS_ULOG << 8
	nfulnlMsgConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	nfulaCfgCmd     = 1 // in a configuration
	nfulaCfgMode    = 2
	nfulaCfgQThresh = 5
	nfulaMark       = 2 // in a packet
	nfulaPayload    = 9
	nfulaPrefix     = 10

	nfulnlCfgCmdBind = 1
	nfulnlCopyPacket = 2
)

// NFLog listens to a group from now on. There is one listener to a group.
func (h *Host) NFLog(group uint16) *NFLog {
	h.lab.t.Helper()
	l := &NFLog{lab: h.lab}
	h.must(h.Do(func() (err error) {
		l.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	}))
	h.lab.track(l)
	timeout := unix.NsecToTimeval(Patience.Nanoseconds())
	h.must(unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	h.must(l.configure(group, nfulaCfgCmd, []byte{nfulnlCfgCmdBind}))
	h.must(l.configure(group, nfulaCfgMode, []byte{0, 0, 0xff, 0xff, nfulnlCopyPacket, 0}))
	// Each packet is sent at once, before it goes on.
	h.must(l.configure(group, nfulaCfgQThresh, []byte{0, 0, 0, 1}))
	return l
}

func (l *NFLog) configure(group uint16, attribute uint16, value []byte) error {
	order := binary.NativeEndian
	m := make([]byte, unix.NLMSG_HDRLEN)
	m = append(m, unix.AF_UNSPEC, unix.NFNETLINK_V0)
	m = binary.BigEndian.AppendUint16(m, group)
	m = order.AppendUint16(m, uint16(unix.NLA_HDRLEN+len(value)))
	m = order.AppendUint16(m, attribute)
	m = append(m, value...)
	m = append(m, make([]byte, -len(m)&3)...)
	order.PutUint32(m, uint32(len(m)))
	order.PutUint16(m[4:], nfulnlMsgConfig)
	order.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(l.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("listen to nflog group %d: %w", group, err)
	}
	reply := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(l.fd, reply, 0)
	if err == nil && n >= 20 && order.Uint16(reply[4:]) == unix.NLMSG_ERROR && order.Uint32(reply[16:]) != 0 {
		err = unix.Errno(-int32(order.Uint32(reply[16:])))
	}
	if err != nil {
		return fmt.Errorf("listen to nflog group %d: %w", group, err)
	}
	return nil
}

// Logged returns what has been logged since the last call. What was logged before the call is there.
func (l *NFLog) Logged() []Logged {
	l.lab.t.Helper()
	var all []Logged
	buffer := make([]byte, 1<<17)
	for {
		n, _, err := unix.Recvfrom(l.fd, buffer, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return all
		}
		if err != nil {
			l.lab.t.Fatalf("lab: read nflog: %v", err)
		}
		for m := buffer[:n]; len(m) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(m))
			if size < unix.NLMSG_HDRLEN || size > len(m) {
				break
			}
			if binary.NativeEndian.Uint16(m[4:]) == nfulnlMsgPacket {
				all = append(all, l.decode(m[unix.NLMSG_HDRLEN+4:size]))
			}
			m = m[min(len(m), (size+3)&^3):]
		}
	}
}

func (l *NFLog) decode(attributes []byte) (out Logged) {
	l.lab.t.Helper()
	for a := attributes; len(a) >= unix.NLA_HDRLEN; {
		size := int(binary.NativeEndian.Uint16(a))
		if size < unix.NLA_HDRLEN || size > len(a) {
			break
		}
		value := a[unix.NLA_HDRLEN:size]
		switch binary.NativeEndian.Uint16(a[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case nfulaMark:
			if len(value) == 4 {
				out.Mark = binary.BigEndian.Uint32(value)
			}
		case nfulaPrefix:
			out.Prefix = string(bytes.TrimRight(value, "\x00"))
		case nfulaPayload:
			p, err := DecodeIP(bytes.Clone(value))
			if err != nil {
				l.lab.t.Fatalf("lab: read nflog: %v", err)
			}
			out.Packet = p
		}
		a = a[min(len(a), (size+3)&^3):]
	}
	return out
}

// Close stops listening.
func (l *NFLog) Close() error {
	l.lab.forget(l)
	return unix.Close(l.fd)
}
