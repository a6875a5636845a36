package doctor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// KernelEvidence is what the kernel can do, and what it could not.
type KernelEvidence struct {
	// Rules is why the kernel cannot have rules such as ours, or nil, and Refused
	// why it, or the host, does not take those of the policy.
	Rules, Refused error
	// Backend is the one that Rules is about.
	Backend string
	// Conntrack counts what did not get into the table of flows since the
	// namespace was made.
	Conntrack conntrack.Failures
	// FixedMax says that the size of that table cannot be set from here.
	FixedMax bool
	// Lacking are modules that helpers of the policy need, and that are neither
	// loaded nor built in.
	Lacking []string
	// ReversePath counts what rp_filter has dropped.
	ReversePath uint64
}

func readKernel(ctx context.Context, h *Host) error {
	_, err := h.source.Engine.Backend.Probe(ctx)
	if errors.Is(err, backend.ErrNotSupported) {
		h.Kernel.Rules, h.Kernel.Backend = err, h.source.Engine.Backend.Name()
		return nil
	}
	if err == nil {
		err = tryPolicy(ctx, h)
	}
	if err != nil {
		return err
	}
	h.Kernel.Lacking = lackingModules(h.Policy)
	return h.do(func() error {
		h.Kernel.FixedMax = sysctl.Fixed("net/netfilter/nf_conntrack_max")
		if h.Kernel.ReversePath, err = reversePath(); err != nil {
			return err
		}
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		h.Kernel.Conntrack, err = c.Failures()
		return err
	})
}

// tryPolicy has the kernel check a policy that is not in force, and changes
// nothing by that.
func tryPolicy(ctx context.Context, h *Host) error {
	drifted := h.Status != nil && h.Status.Drift != nil && !h.Status.Drift.Empty()
	if h.Policy == nil || h.source.Engine.State == nil || h.State.Problem != nil || !h.Given && !drifted {
		return nil
	}
	_, err := h.source.Engine.Plan(ctx, h.Policy)
	var refused *backend.Refused
	var wrong policy.Errors
	if errors.As(err, &refused) || errors.As(err, &wrong) || errors.Is(err, backend.ErrNotSupported) || errors.Is(err, sysctl.ErrAbsent) {
		h.Kernel.Refused = err
		return nil
	}
	return err
}

// reversePath reads the counter of the calling thread's network namespace. Of
// /proc/net/netstat a line names what the next one counts.
func reversePath() (uint64, error) {
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return 0, err
	}
	var names [][]byte
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		for i, f := range fields {
			if i < len(names) && string(names[i]) == "IPReversePathFilter" {
				return strconv.ParseUint(string(f), 10, 64)
			}
		}
		names = fields
	}
	return 0, nil // a kernel that does not count it
}
