package engine

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// follows is nil where the kernel tells of its flows: without that nobody can count
// and cut them. What fails otherwise is for whoever asks more of it.
func (e *Engine) follows() error {
	err := e.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Failures()
		return err
	})
	for _, errno := range []error{syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EPROTONOSUPPORT} {
		if errors.Is(err, errno) {
			return fmt.Errorf("count and cut flows: %w: the module nf_conntrack_netlink (CONFIG_NF_CT_NETLINK) is missing: %w", backend.ErrNotSupported, err)
		}
	}
	return nil
}
