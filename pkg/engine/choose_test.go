package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// called is a backend under a name.
type called struct {
	*backendtest.Fake
	name string
}

func (c called) Name() string { return c.name }

// A policy has the backend that it names, unless another one holds rules: two
// at once, or none for a moment, are what nobody asked for.
func TestChoose(t *testing.T) {
	t.Parallel()
	names := func(name string) *policy.Policy {
		return &policy.Policy{Gateway: policy.Gateway{Backend: name}}
	}
	held := called{&backendtest.Fake{}, "nftables"}
	e := &Engine{Backend: held}
	e.Backends = func(name string) (backend.Backend, error) {
		if name == held.name {
			return held, nil
		}
		return called{&backendtest.Fake{}, name}, nil
	}
	ctx, nothing, applied := context.Background(), &state.State{}, &state.State{Applied: &state.Applied{}}
	for _, c := range []struct{ policy, want string }{{"", "nftables"}, {"auto", "nftables"}, {"iptables", "iptables"}, {"nftables", "nftables"}} {
		if err := e.choose(ctx, names(c.policy), nothing); err != nil || e.Backend.Name() != c.want {
			t.Errorf("%q: %s (%v), want %s", c.policy, e.Backend.Name(), err, c.want)
		}
	}
	held.Edit(func(s *plan.Snapshot) {
		s.Counters = append(s.Counters, plan.Counter{Name: "x", Origin: ruleset.Origin{Entry: "x"}})
	})
	if err := e.choose(ctx, names("iptables"), applied); !errors.Is(err, errOtherBackend) || !strings.Contains(err.Error(), "ipmasq delete") {
		t.Errorf("nftables has rules: %v", err)
	}
	if e.Backend.Name() != "nftables" {
		t.Errorf("refused, and it is %s now", e.Backend.Name())
	}
	if err := e.chooseHeld(&state.State{Backend: "iptables"}); err != nil || e.Backend.Name() != "iptables" {
		t.Errorf("the state says iptables: %s (%v)", e.Backend.Name(), err)
	}
	if err := e.chooseHeld(nothing); err != nil || e.Backend.Name() != "iptables" {
		t.Errorf("the state says nothing: %s (%v)", e.Backend.Name(), err)
	}
	daemon := &Engine{Backend: held}
	if err := daemon.choose(ctx, names("iptables"), nothing); !errors.Is(err, backend.ErrNotSupported) {
		t.Errorf("there is one backend alone: %v", err)
	}
}
