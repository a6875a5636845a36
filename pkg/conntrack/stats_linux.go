package conntrack

import (
	"fmt"

	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// Failures reads what went wrong, of all processors together.
func (c *Conn) Failures() (Failures, error) {
	var f Failures
	question := header(ctGetStatsCPU, netfilter.ProtoUnspec)
	question.Flags = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	request, err := netfilter.MarshalNetlink(question, nil)
	if err != nil {
		return f, err
	}
	answer, err := c.conn.Query(request)
	if err != nil {
		return f, fmt.Errorf("read the statistics of connection tracking: %w", explain(err))
	}
	for _, message := range answer {
		_, attributes, err := netfilter.UnmarshalNetlink(message)
		if err != nil {
			return f, fmt.Errorf("decode the statistics of connection tracking: %w", err)
		}
		for _, a := range attributes {
			switch {
			case len(a.Data) != 4:
			case a.Type == ctaStatsInsertFailed:
				f.Inserts += uint64(a.Uint32())
			case a.Type == ctaStatsDrop:
				f.Drops += uint64(a.Uint32())
			}
		}
	}
	return f, nil
}
