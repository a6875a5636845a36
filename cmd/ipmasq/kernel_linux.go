package main

import (
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// newEngine wires an engine to the kernel.
func newEngine(ns *link.NetNS, dir *state.Dir) (*engine.Engine, error) {
	return &engine.Engine{Backend: nftables.New(ns.Do), State: dir, NetNS: ns}, nil
}
