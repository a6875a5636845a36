package main

import (
	"context"
	"errors"
	"fmt"

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
	e := &engine.Engine{Backend: nftables.New(ns.Do), State: dir, NetNS: ns}
	e.Backends = func(name string) (backend.Backend, error) {
		switch name {
		case "nftables":
			return nftables.New(ns.Do), nil
		case "iptables":
			b, err := iptables.New(ns.Do, "")
			if err != nil {
				return nil, err
			}
			b.Waiting = func(why string) { hint("waiting: %s", why) }
			return b, nil
		}
		return nil, fmt.Errorf("there is no backend %s", name)
	}
	return e, nil
}

// holdKernel has a daemon keep its way to the kernel, and listen to others.
func holdKernel(ctx context.Context, e *engine.Engine, d *daemon.Daemon, own bool) (release func(), err error) {
	b, ok := e.Backend.(*nftables.Backend)
	if !ok {
		return nil, fmt.Errorf("hold the rules of %s: %w", e.Backend.Name(), backend.ErrNotSupported)
	}
	e.Backends = nil // the daemon holds this one
	if err := b.Keep(); err != nil {
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
