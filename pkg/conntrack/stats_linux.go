package conntrack

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

const (
	ctaStatsEntries    = 1 // CTA_STATS_GLOBAL_ENTRIES
	ctaStatsMaxEntries = 2 // CTA_STATS_GLOBAL_MAX_ENTRIES
)

// Count is how many entries the namespace's table has, and how many it may
// have: 0 where that is not bounded, or an old kernel does not say. The limit is
// net.netfilter.nf_conntrack_max of the first namespace, and holds for each one
// by itself. Nothing is listed: the kernel keeps count.
func (c *Conn) Count() (entries, limit uint32, err error) {
	if entries, limit, err = c.count(); err != nil {
		return 0, 0, fmt.Errorf("count the entries of connection tracking: %w", explain(err))
	}
	return entries, limit, nil
}

func (c *Conn) count() (entries, limit uint32, err error) {
	known := false
	err = c.conn.Get(ctGetStats, unix.AF_UNSPEC, nil, func(m nfnetlink.Message) error {
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case ctaStatsEntries:
				entries, known = a.Uint32(), true
			case ctaStatsMaxEntries:
				limit = a.Uint32()
			}
		}
		return nil
	})
	if err == nil && !known {
		err = errors.New("the kernel's answer holds no count of entries")
	}
	return entries, limit, err
}

// Failures reads what went wrong, of all processors together.
func (c *Conn) Failures() (Failures, error) {
	var f Failures
	fields := []*uint64{ // CTA_STATS_*
		2: &f.Found, 4: &f.Invalid, 9: &f.Inserts, 10: &f.Drops, 11: &f.EarlyDrops,
		12: &f.Errors, 13: &f.Restarts, 14: &f.Clashes, 15: &f.LongChains,
	}
	err := c.conn.Dump(ctGetStatsCPU, unix.AF_UNSPEC, nil, func(m nfnetlink.Message) error {
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			if i := int(a.Type()); i < len(fields) && fields[i] != nil {
				*fields[i] += uint64(a.Uint32())
			}
		}
		return nil
	})
	if err != nil {
		return Failures{}, fmt.Errorf("read the statistics of connection tracking: %w", explain(err))
	}
	return f, nil
}
