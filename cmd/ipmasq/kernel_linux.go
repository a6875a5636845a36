package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/daemon"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// newEngine wires an engine to the kernel. Hint tells why it waits.
func newEngine(ns *link.NetNS, dir *state.Dir, hint func(string, ...any)) (*engine.Engine, error) {
	users := iptables.NewUserChains(ns.Do)
	users.Waiting = func(why string) { hint("waiting: %s", why) }
	users.Lock = dir.Locked
	nft := nftables.New(ns.Do)
	all := &backends{enter: ns.Do, lock: dir.Locked, hint: hint, known: map[string]backend.Backend{nft.Name(): nft}}
	return &engine.Engine{Backend: nft, Backends: all.named, UserChains: users, State: dir, NetNS: ns}, nil
}

// backends are those of a namespace. There is one of each, for they remember what
// they have seen.
type backends struct {
	enter func(func() error) error
	lock  func() *os.File
	hint  func(string, ...any)

	mu    sync.Mutex
	known map[string]backend.Backend
}

// named gives a backend by its name; "iptables" is the variant that the host has
// chosen, now.
func (all *backends) named(name string) (backend.Backend, error) {
	if name == "iptables" {
		var err error
		if name, err = iptables.Choice(); err != nil {
			return nil, err
		}
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if b := all.known[name]; b != nil {
		return b, nil
	}
	switch name {
	case "iptables-nft", "iptables-legacy":
	default:
		return nil, fmt.Errorf("there is no backend %s", name)
	}
	b, err := iptables.New(all.enter, name)
	if err != nil {
		return nil, err
	}
	b.Waiting = func(why string) { all.hint("waiting: %s", why) }
	b.Lock = all.lock
	all.known[name] = b
	return b, nil
}

// holdKernel has a daemon keep its way to nftables, and listen to others. Where
// there is no nftables, or other rules are in force, it looks for itself.
func holdKernel(ctx context.Context, e *engine.Engine, d *daemon.Daemon, own bool) (release func(), err error) {
	b, ok := e.Backend.(*nftables.Backend)
	if !ok {
		return nil, fmt.Errorf("hold the rules of %s: %w", e.Backend.Name(), backend.ErrNotSupported)
	}
	err = b.Keep()
	if err == nil {
		_, err = b.Probe(ctx)
	}
	if errors.Is(err, backend.ErrNotSupported) {
		return func() { _ = b.Close() }, nil
	}
	if err != nil {
		return nil, err
	}
	if own {
		err := b.Own(ctx)
		switch {
		case errors.Is(err, backend.ErrNotSupported):
			d.Log.Printf(daemon.Warning, "the table is not owned: %v; what others do to it is put right", err)
		case err != nil:
			_ = b.Close()
			return nil, err
		default:
			d.Owns = b.Owned
		}
	}
	w, err := b.Watch()
	if err != nil {
		d.Log.Printf(daemon.Warning, "%v: what others change is looked for", err)
	} else {
		d.Rules = w
	}
	return func() { _ = b.Close() }, nil
}
