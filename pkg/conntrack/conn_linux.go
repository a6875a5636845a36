package conntrack

import (
	"errors"
	"fmt"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// Conn is a socket to the kernel's connection tracking. It stays in the
// network namespace it was opened in, whatever thread uses it.
type Conn struct {
	conn *netfilter.Conn
}

// worthFiltering is the size from which on reading the table twice, filtered
// by the kernel, is cheaper than once as a whole: an entry costs 5 us to read,
// and a walk over 262,144 hash buckets 12 ms however few entries they hold.
const worthFiltering = 2500

// Open opens a socket in the network namespace of the calling thread. It needs
// no privilege; what is asked through it needs CAP_NET_ADMIN.
func Open() (*Conn, error) {
	conn, err := netfilter.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open a conntrack netlink socket: %w", err)
	}
	return &Conn{conn: conn}, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("close the conntrack netlink socket: %w", err)
	}
	return nil
}

// Translated hands over every connection whose source or destination is
// translated, until yield returns false. No lock is held meanwhile: yield may
// call Delete. The whole answer is in memory before the first yield.
func (c *Conn) Translated(yield func(Flow) bool) error {
	entries, err := c.entries()
	switch {
	case err != nil || entries == 0:
	case entries < worthFiltering:
		err = c.wholeTable(yield)
	default:
		err = c.byStatus(yield, statusFilter)
	}
	if err != nil {
		return fmt.Errorf("list translated connections: %w", explain(err))
	}
	return nil
}

// entries is how many connections the namespace has.
func (c *Conn) entries() (uint32, error) {
	request, err := netfilter.MarshalNetlink(header(ctGetStats, netfilter.ProtoUnspec), nil)
	if err != nil {
		return 0, err
	}
	answer, err := c.conn.Query(request)
	if err != nil {
		return 0, err
	}
	for _, message := range answer {
		_, attributes, err := netfilter.UnmarshalNetlink(message)
		if err != nil {
			return 0, err
		}
		for _, a := range attributes {
			if a.Type == ctaStatsEntries && len(a.Data) == 4 {
				return a.Uint32(), nil
			}
		}
	}
	return 0, errors.New("the kernel's answer holds no count of entries")
}

func (c *Conn) wholeTable(yield func(Flow) bool) error {
	_, err := c.list(nil, func(s Status) bool { return s&(StatusSNAT|StatusDNAT) != 0 }, yield)
	return err
}

// byStatus lets the kernel leave out what is not translated. It can ask for
// bits that are all as given only, so "source or destination" is two listings,
// the second without what was in the first.
func (c *Conn) byStatus(yield func(Flow) bool, filter func(bits, mask Status) []netfilter.Attribute) error {
	for _, part := range []struct{ bits, mask Status }{
		{StatusSNAT, StatusSNAT},
		{StatusDNAT, StatusSNAT | StatusDNAT},
	} {
		// Checked again here: kernels before 5.14 ignore the filter.
		match := func(s Status) bool { return s&part.mask == part.bits }
		if more, err := c.list(filter(part.bits, part.mask), match, yield); err != nil || !more {
			return err
		}
	}
	return nil
}

func statusFilter(bits, mask Status) []netfilter.Attribute {
	return []netfilter.Attribute{
		number(ctaStatus, netfilter.Uint32Bytes(uint32(bits))),
		number(ctaStatusMask, netfilter.Uint32Bytes(uint32(mask))),
	}
}

// list hands over the connections that the kernel lets through and match
// accepts, and says whether yield wants more.
func (c *Conn) list(filter []netfilter.Attribute, match func(Status) bool, yield func(Flow) bool) (more bool, err error) {
	question := header(ctGet, netfilter.ProtoUnspec)
	question.Flags = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	request, err := netfilter.MarshalNetlink(question, filter)
	if err != nil {
		return false, err
	}
	answer, err := c.conn.Query(request)
	if err != nil {
		return false, err
	}
	for _, message := range answer {
		// What a listing holds has the form of an event, and that is the
		// decoder which the library exports.
		var entry conntrack.Event
		if err := entry.Unmarshal(message); err != nil {
			return false, fmt.Errorf("decode an entry: %w", err)
		}
		if entry.Flow == nil || !match(Status(entry.Flow.Status.Value)) {
			continue
		}
		if !yield(toFlow(entry.Flow)) {
			return false, nil
		}
	}
	return true, nil
}

// Delete removes exactly this connection, as it was listed, so that its next
// packet is a new one. One that is gone already is nil, also where a connection
// with the same addresses and ports but another translation has taken its
// place.
func (c *Conn) Delete(f Flow) error {
	request, err := netfilter.MarshalNetlink(header(ctDelete, protocolFamily(f.Family)), entryAttributes(f))
	if err == nil {
		_, err = c.conn.Query(request)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("delete connection %s: %w", f, explain(err))
}

// explain adds what an error number leaves unsaid.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("needs CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w (is the module nf_conntrack_netlink there?)", err)
	}
	return err
}
