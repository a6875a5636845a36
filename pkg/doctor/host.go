package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Host is the evidence. Parts that could not be read are nil or zero, and Unread
// says why.
type Host struct {
	Place Place
	// Routes are the links, addresses and routes.
	Routes *link.Routes
	// Sysctls are values by name, as "net/ipv4/ip_forward".
	Sysctls map[string]string
	// Policy is what is judged, and its zones name their interfaces: the one that
	// was Given, else what was applied last, else nil. Compiled is what it
	// compiles to on this host.
	Policy   *policy.Policy
	Compiled *compile.Result
	Given    bool
	// Files are what the policy was read from.
	Files []string
	// Applied is what was applied last; nil where nothing was.
	Applied *engine.Applied
	Status  *engine.Status
	Kernel  KernelEvidence
	State   StateEvidence
	Rules   RuleEvidence
	Flows   FlowEvidence
	// Looked names what was looked at, for people: "5 links".
	Looked []string
	Unread []Unread

	source Source
	// configured are the sysctls that files set at boot.
	configured []configured
	simulated  *simulate.Gateway // what gateway made
	examples   []passage         // what passages made
	led        []detour          // what detours made
	via        flows.Routes      // instead of Routes, of evidence that was written down
}

// Unread is evidence that could not be read.
type Unread struct {
	What, Why string
	// Capability is what the process lacks, as "CAP_NET_ADMIN", or "" where that
	// is not the reason.
	Capability string
}

// Source says where to look.
type Source struct {
	// Engine works on the host. Its State may be nil: StateProblem says why.
	Engine       *engine.Engine
	StateProblem error
	// Policy is what to judge instead of what was applied last, or nil, and Files
	// what it was read from.
	Policy *policy.Policy
	Files  []string
	Place  Place
	// Probe allows to connect to the targets of port forwards.
	Probe bool
	// Flow is a flow that is asked about: no other is read. Nil: all are.
	Flow *Flow
}

// Place is how commands reach the host that is looked at: what stands before
// those of others, and the flags of our own.
type Place struct{ Prefix, Flags []string }

// command has a line of a remedy work on the host.
func (p Place) command(line string) string {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || strings.HasPrefix(line, "#") || len(p.Prefix)+len(p.Flags) == 0:
		return line
	case words[0] == "systemctl" || words[0] == "journalctl" || words[0] == "modprobe" || words[0] == "kill":
		return line // of the machine, in whatever namespace
	case words[0] == "ipmasq" && len(words) > 2 && words[1] == "connections":
		return strings.Join(slices.Concat(words[:3], quoted(p.Flags), words[3:]), " ")
	case words[0] == "ipmasq" && len(words) > 1:
		return strings.Join(slices.Concat(words[:2], quoted(p.Flags), words[2:]), " ")
	}
	return strings.Join(append(quoted(p.Prefix), line), " ")
}

// quoted are words as a shell takes them.
func quoted(words []string) []string {
	out := slices.Clone(words)
	for i, w := range out {
		plain := func(r rune) bool {
			return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
		}
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return !plain(r) }) {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return out
}

// part is evidence that is read on its own: where it cannot be, the others are.
type part struct {
	name string // for people, as "the rules"
	// capability is what it takes to read it.
	capability string
	read       func(context.Context, *Host) error
}

// Read gathers the evidence. It changes nothing, and fails only where ctx ends:
// what cannot be read is noted. A Policy with mistakes, of which some only the
// host shows, is policy.Errors.
func Read(ctx context.Context, s Source) (*Host, error) {
	h := &Host{Place: s.Place, Sysctls: map[string]string{}, Files: s.Files, Given: s.Policy != nil, source: s}
	for _, p := range slices.Concat(hostParts, ruleParts, flowParts) {
		err := p.read(ctx, h)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %s: %w", p.name, context.Cause(ctx))
		}
		var wrong policy.Errors
		if errors.As(err, &wrong) && h.Given {
			return nil, err
		}
		if err != nil {
			h.unread(p, err)
		}
	}
	return h, nil
}

func (h *Host) unread(p part, err error) {
	u := Unread{What: p.name, Why: err.Error()}
	if errors.Is(err, fs.ErrPermission) {
		u.Capability = p.capability
	}
	h.Unread = append(h.Unread, u)
}

// looked notes what was looked at.
func (h *Host) looked(n int, one, many string) {
	if n == 1 {
		h.Looked = append(h.Looked, "1 "+one)
		return
	}
	h.Looked = append(h.Looked, fmt.Sprintf("%d %s", n, many))
}

// facts are the links, addresses and routes; none where they could not be read.
func (h *Host) facts() link.Facts {
	if h.Routes == nil {
		return link.Facts{}
	}
	return h.Routes.Facts
}

// do runs in the host's network namespace.
func (h *Host) do(f func() error) error { return h.source.Engine.NetNS.Do(f) }
