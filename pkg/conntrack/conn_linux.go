package conntrack

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// Conn is the way to the kernel's connection tracking. It stays in the network
// namespace it was opened in, whatever thread uses it, and serves one goroutine
// at a time.
type Conn struct {
	conn *nfnetlink.Conn
	// dumps are for lists: two can be read at once, and while they are, conn is
	// free for Delete.
	dumps   [2]*nfnetlink.Conn
	listing bool
	decoder decoder
	tuples  bool // whether the kernel filters by tuple
}

// Open opens sockets in the network namespace of the calling thread. It needs
// no privilege; what is asked through them needs CAP_NET_ADMIN.
func Open() (*Conn, error) {
	c := &Conn{tuples: filtersTuples()}
	for _, to := range []**nfnetlink.Conn{&c.conn, &c.dumps[0], &c.dumps[1]} {
		conn, err := nfnetlink.Dial()
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("open connection tracking: %w", err)
		}
		*to = conn
	}
	return c, nil
}

// Close closes the sockets.
func (c *Conn) Close() error {
	var errs []error
	for _, conn := range []*nfnetlink.Conn{c.conn, c.dumps[0], c.dumps[1]} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close connection tracking: %w", err)
	}
	return nil
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
