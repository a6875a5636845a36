package conntrack

import (
	"fmt"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h: CTA_EXPECT_*.
const (
	ctaExpectMaster   = 1
	ctaExpectTuple    = 2
	ctaExpectMask     = 3
	ctaExpectTimeout  = 4
	ctaExpectID       = 5
	ctaExpectHelpName = 6
	ctaExpectZone     = 7
	ctaExpectFlags    = 8
	ctaExpectClass    = 9
	ctaExpectNAT      = 10
	ctaExpectFunction = 11

	ctaExpectNATDirection = 1
	ctaExpectNATTuple     = 2
)

// Expectations hands over the connections that helpers have announced, until
// yield returns false, which must not ask anything of c. The Expectation is
// valid during the call only.
func (c *Conn) Expectations(yield func(*Expectation) bool) error {
	var x Expectation
	more := true
	err := c.conn.Dump(expGet, unix.AF_UNSPEC, nil, func(m nfnetlink.Message) error {
		if more && decodeExpectation(m, &x) {
			more = yield(&x)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list expectations: %w", explain(err))
	}
	return nil
}

// decodeExpectation says false where there is none that has addresses.
func decodeExpectation(m nfnetlink.Message, x *Expectation) bool {
	*x = Expectation{}
	switch m.Family() {
	case unix.AF_INET:
		x.Family = IPv4
	case unix.AF_INET6:
		x.Family = IPv6
	default:
		return false
	}
	for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
		p := a.Bytes()
		switch a.Type() {
		case ctaExpectMaster:
			x.MasterProtocol = decodeTuple(p, &x.Master)
		case ctaExpectTuple:
			x.Protocol = decodeTuple(p, &x.Tuple)
		case ctaExpectMask:
			decodeTuple(p, &x.Mask)
		case ctaExpectTimeout:
			x.Timeout = time.Duration(a.Uint32()) * time.Second
		case ctaExpectID:
			x.ID = a.Uint32()
		case ctaExpectHelpName:
			x.Helper = a.String()
		case ctaExpectZone:
			x.Zone = uint16Of(p)
		case ctaExpectFlags:
			x.Flags = ExpectationFlags(a.Uint32())
		case ctaExpectClass:
			x.Class = a.Uint32()
		case ctaExpectFunction:
			x.Function = a.String()
		case ctaExpectNAT:
			x.decodeNAT(p)
		}
	}
	return x.Tuple.Source.IsValid() && x.Tuple.Destination.IsValid()
}

func (x *Expectation) decodeNAT(p []byte) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case ctaExpectNATDirection:
			x.Reply = a.Uint32() != 0
		case ctaExpectNATTuple:
			decodeTuple(a.Bytes(), &x.NAT)
			x.Translated = x.NAT.Source.IsValid()
		}
	}
}
