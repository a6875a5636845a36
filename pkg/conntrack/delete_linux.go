package conntrack

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// together is how many deletes are encoded at once.
const together = 2000

// Delete removes exactly this connection, as it was listed, so that its next
// packet is a new one. One that is gone already is nil, also where a connection
// with the same addresses and ports but another translation has taken its
// place.
func (c *Conn) Delete(f Flow) error {
	_, err := c.DeleteAll([]Flow{f})
	return err
}

// DeleteAll removes exactly these connections, as they were listed, and says
// how many of them were still there. One that the kernel refuses to remove does
// not keep the others; the error is of the first.
func (c *Conn) DeleteAll(flows []Flow) (deleted int, err error) {
	var refused error
	var r nfnetlink.Requests
	for len(flows) > 0 {
		some := flows[:min(len(flows), together)]
		flows = flows[len(some):]
		r.Reset()
		for i := range some {
			encodeDelete(&r, &some[i])
		}
		n := len(some)
		err := c.conn.Do(&r, func(e *nfnetlink.Error) {
			n--
			if !errors.Is(e, unix.ENOENT) && refused == nil {
				refused = fmt.Errorf("delete connection %s: %w", some[max(e.Message, 0)], explain(e))
			}
		})
		if err != nil {
			return deleted, fmt.Errorf("delete connections: %w", explain(err))
		}
		deleted += n
	}
	return deleted, refused
}

// encodeDelete names one entry for good. The kernel finds it by one tuple and
// then compares the ID, which hashes the entry's place in memory and its
// original tuple (nf_ct_get_id). Memory is reused at once, so that the ID and
// the original tuple also fit a successor that is translated otherwise; the ID
// and the reply tuple do not.
func encodeDelete(r *nfnetlink.Requests, f *Flow) {
	r.Message(ctDelete, 0, protocolFamily(f.Family))
	encodeTuple(&r.Encoder, ctaTupleReply, f.Protocol, &f.Reply)
	if f.Zone != 0 {
		r.Uint16(ctaZone, f.Zone)
	}
	r.Uint32(ctaID, f.ID)
}
