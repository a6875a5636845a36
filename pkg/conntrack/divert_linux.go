package conntrack

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Attributes of a translation that a new entry is to have.
const (
	ctaNATSource = 6 // CTA_NAT_SRC

	ctaNATIPv4Min = 1 // CTA_NAT_V4_MINIP
	ctaNATPorts   = 3 // CTA_NAT_PROTO
	ctaNATIPv6Min = 4 // CTA_NAT_V6_MINIP

	ctaNATPortMin = 1 // CTA_PROTONAT_PORT_MIN
	ctaNATPortMax = 2 // CTA_PROTONAT_PORT_MAX
)

// diverts is how often a connection is tried to be diverted whose answering
// side is faster.
const diverts = 10

// Divert removes connections like DeleteAll, of which the destination alone is
// translated and keeps its port, and has what the answering side sends next
// leave from one of other ports. Where that side is masqueraded, it would otherwise
// get the very address and port that its peer knows it by, since they are free
// now, and the connection would go on as one that it opened itself.
func (c *Conn) Divert(flows []Diversion) (deleted int, err error) {
	left := flows
	for try := range diverts {
		var r nfnetlink.Requests
		var refused error
		var again []Diversion
		n := len(left)
		for i := range left {
			f := &left[i]
			if try == 0 {
				encodeDelete(&r, &f.Flow)
			} else { // whatever the answering side has opened meanwhile
				r.Message(ctDelete, 0, protocolFamily(f.Family))
				encodeTuple(&r.Encoder, ctaTupleOriginal, f.Protocol, &f.Reply)
				if f.Zone != 0 {
					r.Uint16(ctaZone, f.Zone)
				}
			}
			encodeDiverted(&r, f)
		}
		err := c.conn.Do(&r, func(e *nfnetlink.Error) {
			f := left[max(e.Message, 0)/2]
			switch made := e.Message%2 == 1; {
			case made && errors.Is(e, unix.EEXIST):
				again = append(again, f)
			case !made && errors.Is(e, unix.ENOENT):
				n--
			default:
				refused = cmp.Or(refused, fmt.Errorf("divert connection %s: %w", f, explain(e)))
			}
		})
		if try == 0 {
			deleted = n
		}
		if err != nil {
			return deleted, fmt.Errorf("divert connections: %w", explain(err))
		}
		if refused != nil || len(again) == 0 {
			return deleted, refused
		}
		left = again
	}
	return deleted, fmt.Errorf("divert connection %s: the other side opens it again and again", left[0])
}

// encodeDiverted writes the connection that the answering side opens by what it
// sends next: from the address that it was known by, and any port but the one.
func encodeDiverted(r *nfnetlink.Requests, f *Diversion) {
	r.Message(ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, protocolFamily(f.Family))
	encodeTuple(&r.Encoder, ctaTupleOriginal, f.Protocol, &f.Reply)
	back := f.Reply
	back.Source, back.Destination = back.Destination, back.Source
	back.SourcePort, back.DestinationPort = back.DestinationPort, back.SourcePort
	encodeTuple(&r.Encoder, ctaTupleReply, f.Protocol, &back)
	r.Uint32(ctaTimeout, uint32(max(f.Timeout/time.Second, 1)))
	if f.Zone != 0 {
		r.Uint16(ctaZone, f.Zone)
	}
	nat := r.Open(ctaNATSource | unix.NLA_F_NESTED)
	encodeAddress(&r.Encoder, ctaNATIPv4Min, ctaNATIPv6Min, f.Original.Destination)
	ports := r.Open(ctaNATPorts | unix.NLA_F_NESTED)
	r.Uint16(ctaNATPortMin, f.First)
	r.Uint16(ctaNATPortMax, f.Last)
	r.Close(ports)
	r.Close(nat)
}
