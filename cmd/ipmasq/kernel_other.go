//go:build !linux

package main

import (
	"context"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/daemon"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// newEngine needs Linux, as opening a namespace does before it.
func newEngine(*link.NetNS, *state.Dir, func(string, ...any)) (*engine.Engine, error) {
	return nil, backend.ErrNotSupported
}

// holdKernel needs Linux too.
func holdKernel(context.Context, *engine.Engine, *daemon.Daemon, bool) (func(), error) {
	return nil, backend.ErrNotSupported
}
