package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// usual is the backend of policies that name none, where the kernel has it.
const usual = "nftables"

// otherwise is what they have where the kernel does not: the variant that the
// host has chosen, else one of them.
func otherwise() []string {
	return []string{"iptables", string(foreign.XTLegacy), string(foreign.XTNFT)}
}

// choose takes the backend that a policy names. What another one holds goes when
// the new rules are in force, see [Left].
func (e *Engine) choose(ctx context.Context, p *policy.Policy) (warning string, err error) {
	name := p.Gateway.Backend
	if e.Backends == nil {
		if name == "iptables" && e.Backend.Name() == usual {
			return "", fmt.Errorf("gateway.backend: iptables: %w here: use ipmasq apply", backend.ErrNotSupported)
		}
		return "", nil
	}
	if name == "" || name == "auto" {
		return e.auto(ctx)
	}
	if err := e.take(name); err != nil {
		return "", fmt.Errorf("gateway.backend: %s: %w", name, err)
	}
	return "", nil
}

// take makes a backend the one that is used.
func (e *Engine) take(name string) error {
	if name == e.Backend.Name() {
		return nil
	}
	b, err := e.Backends(name)
	if err != nil {
		return err
	}
	if b.Name() != e.Backend.Name() {
		e.Backend = b
	}
	return nil
}

// auto takes nftables where the kernel has it, else iptables, and says why. What
// fails otherwise, for want of a permission say, would fail with the other too.
func (e *Engine) auto(ctx context.Context) (warning string, err error) {
	if err := e.take(usual); err != nil {
		return "", err
	}
	_, why := e.Backend.Probe(ctx)
	if !errors.Is(why, backend.ErrNotSupported) {
		return "", why
	}
	first := e.Backend
	var last error // of iptables-legacy: the other variant is nf_tables too
	for _, name := range otherwise() {
		b, err := e.Backends(name)
		if err == nil {
			_, err = b.Probe(ctx)
		}
		switch {
		case err == nil:
			e.Backend = b
			return fmt.Sprintf("gateway.backend: auto is %s here: %v", b.Name(), why), nil
		case !errors.Is(err, backend.ErrNotSupported):
			return "", err
		case last == nil || name == string(foreign.XTLegacy):
			last = err
		}
	}
	e.Backend = first
	return "", fmt.Errorf("gateway.backend: auto: nothing works here: %w; %w; install the module nf_tables of the running kernel (after an upgrade of the kernel: reboot), or ip_tables and the program iptables", why, last)
}

// chooseHeld takes the backend that holds the rules in force.
func (e *Engine) chooseHeld(ctx context.Context, s *state.State) error {
	if e.Backends == nil {
		return nil
	}
	if s.Backend != "" {
		if err := e.take(s.Backend); err != nil {
			return fmt.Errorf("the rules in force are in %s: %w", s.Backend, err)
		}
		return nil
	}
	if _, err := e.auto(ctx); err != nil && !errors.Is(err, backend.ErrNotSupported) {
		return err
	}
	return nil
}
