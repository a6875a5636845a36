package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

const (
	mostProbes  = 64
	probeWithin = time.Second
	probesAside = 16 // how many go at the same time
)

// probeTargets connects to the targets of port forwards, where the user wants
// that, and sends nothing. Only the targets see it.
func probeTargets(ctx context.Context, h *Host) error {
	if !h.source.Probe || h.Policy == nil {
		return nil
	}
	h.Flows.Probes = map[netip.AddrPort]Probe{}
	var asked []netip.AddrPort
	for _, t := range h.targets() {
		if t.protocol == policy.ProtocolTCP && t.port != 0 && len(asked) < mostProbes {
			asked = append(asked, netip.AddrPortFrom(t.address, t.port))
		}
	}
	found := make([]Probe, len(asked))
	errs := make([]error, len(asked))
	var group sync.WaitGroup
	free := make(chan struct{}, probesAside)
	for i, a := range asked {
		group.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			errs[i] = h.do(func() error {
				found[i] = probe(ctx, a)
				return nil
			})
		})
	}
	group.Wait()
	for i, a := range asked {
		h.Flows.Probes[a] = found[i]
	}
	h.looked(len(asked), "target asked", "targets asked")
	return errors.Join(errs...)
}

func probe(ctx context.Context, to netip.AddrPort) Probe {
	d := net.Dialer{Timeout: probeWithin}
	c, err := d.DialContext(ctx, "tcp", to.String())
	switch {
	case err == nil:
		_ = c.Close()
		return ProbeOpen
	case errors.Is(err, syscall.ECONNREFUSED):
		return ProbeRefused
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT):
		return ProbeSilent
	}
	return ProbeUnreachable
}
