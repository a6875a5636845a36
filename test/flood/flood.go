// Package flood fills the kernel's conntrack table with entries, by batches:
// some 300,000 a second.
//
// It imports nothing that it is used to test: what it writes, it writes by
// itself. The kernel translates the entries as it would those of packets.
package flood

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Entry is a connection to be put into the table.
type Entry struct {
	Protocol            uint8 // TCP, UDP, or another one that has ports
	Source, Destination netip.AddrPort
	// SNAT and DNAT are what the kernel shall make of the source and the
	// destination, where they are valid. Port 0 keeps the port.
	SNAT, DNAT netip.AddrPort
	Timeout    time.Duration // an hour if it is 0
	Mark       uint32
	Zone       uint16
}

// batch is how many entries go to the kernel at once.
const batch = 2000

// Fill puts n entries into the table of the calling thread's network
// namespace; of sets the fields of entry i. Half-open TCP would be dropped
// when the table is full, so all entries are assured.
func Fill(n int, of func(i int, e *Entry)) error {
	c, err := nfnetlink.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var refused error
	r := &nfnetlink.Requests{}
	for i := range n {
		e := Entry{Timeout: time.Hour}
		of(i, &e)
		e.encode(r)
		if r.Messages() < batch && i < n-1 {
			continue
		}
		base := i + 1 - r.Messages()
		err := c.Do(r, func(e *nfnetlink.Error) {
			if refused == nil {
				refused = fmt.Errorf("create entry %d: %w", base+e.Message, e)
			}
		})
		if err == nil {
			err = refused
		}
		if err != nil {
			return err
		}
		r.Reset()
	}
	return nil
}

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew = unix.NFNL_SUBSYS_CTNETLINK << 8 // IPCTNL_MSG_CT_NEW

	ctaTupleOriginal  = 1
	ctaTupleReply     = 2
	ctaStatus         = 3
	ctaProtocolInfo   = 4
	ctaNATSource      = 6
	ctaTimeout        = 7
	ctaMark           = 8
	ctaNATDestination = 13
	ctaZone           = 18

	tcpEstablished = 3
	assured        = 1<<1 | 1<<2 | 1<<3 // IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
)

func (e *Entry) encode(r *nfnetlink.Requests) {
	family := uint8(unix.AF_INET)
	if e.Source.Addr().Is6() {
		family = unix.AF_INET6
	}
	r.Message(ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family)
	e.tuple(r, ctaTupleOriginal, e.Source, e.Destination)
	e.tuple(r, ctaTupleReply, e.Destination, e.Source)
	r.Uint32(ctaTimeout, uint32(e.Timeout/time.Second))
	r.Uint32(ctaStatus, assured)
	if e.Mark != 0 {
		r.Uint32(ctaMark, e.Mark)
	}
	if e.Zone != 0 {
		r.Uint16(ctaZone, e.Zone)
	}
	if e.Protocol == unix.IPPROTO_TCP {
		info := r.Open(ctaProtocolInfo)
		tcp := r.Open(1)
		r.Uint8(1, tcpEstablished)
		r.Close(tcp)
		r.Close(info)
	}
	translate(r, ctaNATSource, e.SNAT)
	translate(r, ctaNATDestination, e.DNAT)
}

func (e *Entry) tuple(r *nfnetlink.Requests, kind uint16, source, destination netip.AddrPort) {
	tuple := r.Open(kind)
	ip := r.Open(1)
	first := uint16(1) // CTA_IP_V4_SRC
	if source.Addr().Is6() {
		first = 3
	}
	address(r, first, source.Addr())
	address(r, first+1, destination.Addr())
	r.Close(ip)
	protocol := r.Open(2)
	r.Uint8(1, e.Protocol)
	r.Uint16(2, source.Port())
	r.Uint16(3, destination.Port())
	r.Close(protocol)
	r.Close(tuple)
}

func address(r *nfnetlink.Requests, kind uint16, a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		r.Bytes(kind, b[:])
		return
	}
	b := a.As16()
	r.Bytes(kind, b[:])
}

func translate(r *nfnetlink.Requests, kind uint16, to netip.AddrPort) {
	if !to.IsValid() {
		return
	}
	nat := r.Open(kind)
	first := uint16(1) // CTA_NAT_V4_MINIP
	if to.Addr().Is6() {
		first = 4
	}
	address(r, first, to.Addr())
	address(r, first+1, to.Addr())
	if to.Port() != 0 {
		ports := r.Open(3)
		r.Uint16(1, to.Port())
		r.Uint16(2, to.Port())
		r.Close(ports)
	}
	r.Close(nat)
}
