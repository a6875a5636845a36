package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// FlowEvidence is what conntrack holds, and who of the neighbours answers.
type FlowEvidence struct {
	// Seen are flows as the policy judges them: the first of the table, no more
	// than flowsRead. A policy that is not in force judges none.
	Seen      []Seen
	Neighbors []link.Neighbor
	// Probes are what came of asking targets, where the user wants that.
	Probes map[netip.AddrPort]Probe
}

// Seen is a flow, and what the policy has to say of it.
type Seen struct {
	conntrack.Flow
	flows.Judgement
}

// Probe is what a connection from the gateway itself came to.
type Probe string

// The outcomes of a probe.
const (
	ProbeOpen        Probe = "is accepted"
	ProbeRefused     Probe = "is refused"
	ProbeSilent      Probe = "is not answered"
	ProbeUnreachable Probe = "does not get there"
)

var flowParts = []part{
	{"the flows", "CAP_NET_ADMIN", readFlows},
	{"the neighbours", "CAP_SYS_ADMIN", readNeighbors},
	{"the targets", "CAP_SYS_ADMIN", probeTargets},
}

// flowsRead is how many flows are looked at.
const flowsRead = 50_000

func readFlows(ctx context.Context, h *Host) error {
	if h.Compiled == nil || h.Given || h.Routes == nil {
		return nil
	}
	judge := flows.NewJudge(h.Compiled.Ruleset, h.Policy, h.facts(), h.Routes)
	more := 0
	err := h.do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.List(h.source.Flow.filter(), func(f *conntrack.Flow) bool {
			if len(h.Flows.Seen) < flowsRead {
				h.Flows.Seen = append(h.Flows.Seen, Seen{*f, judge.Judge(f)})
			} else {
				more++
			}
			return ctx.Err() == nil
		})
	})
	if err != nil {
		return err
	}
	if more > 0 {
		h.Looked = append(h.Looked, fmt.Sprintf("%d of %d flows", len(h.Flows.Seen), len(h.Flows.Seen)+more))
		return nil
	}
	h.looked(len(h.Flows.Seen), "flow", "flows")
	return nil
}

func readNeighbors(_ context.Context, h *Host) error {
	err := h.do(func() (err error) {
		h.Flows.Neighbors, err = link.Neighbors()
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
