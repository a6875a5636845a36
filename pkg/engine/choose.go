package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// usual is the backend of policies that name none.
const usual = "nftables"

// errOtherBackend refuses rules in two places: for a moment there would be both,
// or neither.
var errOtherBackend = errors.New("the rules in force are of another backend")

// choose takes the backend that a policy names.
func (e *Engine) choose(ctx context.Context, p *policy.Policy, remembered *state.State) error {
	name := p.Gateway.Backend
	if name == "" || name == "auto" {
		name = usual
	}
	if e.Backends == nil {
		if p.Gateway.Backend == "iptables" && e.Backend.Name() == usual {
			return fmt.Errorf("gateway.backend: iptables: %w here: use ipmasq apply", backend.ErrNotSupported)
		}
		return nil
	}
	if name == e.Backend.Name() {
		return nil
	}
	if remembered.Applied != nil {
		have, err := e.Backend.Have(ctx)
		if err != nil {
			return err
		}
		if !have.Empty() {
			return fmt.Errorf("%w (%s, and the policy says %s): run ipmasq delete first", errOtherBackend, e.Backend.Name(), name)
		}
	}
	b, err := e.Backends(name)
	if err != nil {
		return err
	}
	e.Backend = b
	return nil
}

// chooseHeld takes the backend that holds the rules in force.
func (e *Engine) chooseHeld(s *state.State) error {
	if e.Backends == nil || s.Backend == "" || s.Backend == e.Backend.Name() {
		return nil
	}
	b, err := e.Backends(s.Backend)
	if err != nil {
		return err
	}
	e.Backend = b
	return nil
}
