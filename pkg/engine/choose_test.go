package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// called is a backend under a name, which may not work.
type called struct {
	*backendtest.Fake
	name string
	err  error
}

func (c called) Name() string { return c.name }

func (c called) Probe(ctx context.Context) (uint32, error) {
	if c.err != nil {
		return 0, c.err
	}
	return c.Fake.Probe(ctx)
}

// host is a host with backends, of which some have something wrong with them. Its
// iptables is that of a variant.
func host(choice string, wrong map[string]error) *Engine {
	all := map[string]backend.Backend{}
	e := &Engine{Backends: func(name string) (backend.Backend, error) {
		if name == "iptables" {
			name = choice
		}
		if name == "" {
			return nil, fmt.Errorf("there is no iptables: %w", backend.ErrNotSupported)
		}
		if all[name] == nil {
			all[name] = called{&backendtest.Fake{}, name, wrong[name]}
		}
		return all[name], nil
	}}
	e.Backend, _ = e.Backends(usual)
	return e
}

// A policy has the backend that it names. auto is nftables where the kernel has
// it, else what iptables is on the host, else what works; and what is not
// permitted is no reason to take another.
func TestChoose(t *testing.T) {
	t.Parallel()
	absent := fmt.Errorf("the kernel: %w", backend.ErrNotSupported)
	broken := fmt.Errorf("the kernel: %w", fs.ErrPermission)
	both := map[string]error{"nftables": absent, "iptables-nft": absent}
	for _, c := range []struct {
		policy, host string
		wrong        map[string]error
		want         string
		err          error
		says         string
	}{
		{"", "iptables-nft", nil, "nftables", nil, ""},
		{"auto", "iptables-legacy", nil, "nftables", nil, ""},
		{"nftables", "iptables-nft", nil, "nftables", nil, ""},
		{"iptables", "iptables-nft", nil, "iptables-nft", nil, ""},
		{"iptables", "iptables-legacy", nil, "iptables-legacy", nil, ""},
		{"iptables", "", nil, "nftables", backend.ErrNotSupported, ""},
		{"auto", "iptables-legacy", both, "iptables-legacy", nil, "auto is iptables-legacy here: the kernel: not supported"},
		{"auto", "iptables-nft", map[string]error{"nftables": absent}, "iptables-nft", nil, "auto is iptables-nft here"},
		{"auto", "iptables-nft", both, "iptables-legacy", nil, "auto is iptables-legacy here"},
		{"auto", "", map[string]error{"nftables": absent, "iptables-nft": absent, "iptables-legacy": absent}, "nftables", backend.ErrNotSupported, ""},
		{"auto", "iptables-legacy", map[string]error{"nftables": broken}, "nftables", fs.ErrPermission, ""},
		{"auto", "iptables-legacy", map[string]error{"nftables": absent, "iptables-legacy": broken}, "nftables", fs.ErrPermission, ""},
		{"nftables", "iptables-legacy", both, "nftables", nil, ""}, // the plan says that it does not work
	} {
		name := fmt.Sprintf("%q on a host with %q, %v", c.policy, c.host, c.wrong)
		e := host(c.host, c.wrong)
		said, err := e.choose(context.Background(), &policy.Policy{Gateway: policy.Gateway{Backend: c.policy}})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if e.Backend.Name() != c.want {
			t.Errorf("%s: %s, want %s", name, e.Backend.Name(), c.want)
		}
		if c.says == "" && said != "" || !strings.Contains(said, c.says) {
			t.Errorf("%s: it says %q", name, said)
		}
	}
	alone := &Engine{Backend: called{&backendtest.Fake{}, "nftables", nil}}
	if _, err := alone.choose(context.Background(), &policy.Policy{Gateway: policy.Gateway{Backend: "iptables"}}); !errors.Is(err, backend.ErrNotSupported) {
		t.Errorf("there is one backend alone: %v", err)
	}
}

// Commands work on what the state says; without a state, on what works.
func TestChooseHeld(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := host("iptables-nft", map[string]error{"nftables": backend.ErrNotSupported})
	if err := e.chooseHeld(ctx, &state.State{Backend: "iptables-legacy"}); err != nil || e.Backend.Name() != "iptables-legacy" {
		t.Errorf("the state says iptables-legacy: %s (%v)", e.Backend.Name(), err)
	}
	if err := e.chooseHeld(ctx, &state.State{}); err != nil || e.Backend.Name() != "iptables-nft" {
		t.Errorf("the state says nothing, and there is no nftables: %s (%v)", e.Backend.Name(), err)
	}
	e = host("iptables-nft", map[string]error{"nftables": fs.ErrPermission})
	if err := e.chooseHeld(ctx, &state.State{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("nothing is permitted: %v", err)
	}
}
