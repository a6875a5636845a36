//go:build !linux

package iptables

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/plan"
)

func (b *Backend) probeSets() bool { return false }

func probeShifts() bool { return false }

func (b *Backend) readSets([]*plan.Set, bool) ([]heldSet, error) { return nil, nil }

// setWork needs Linux.
type setWork struct{ made map[string]bool }

func (b *Backend) prepareSets(changes *plan.Changes) (*setWork, error) {
	if len(changes.Sets) > 0 {
		return nil, fmt.Errorf("make sets: %w", backend.ErrNotSupported)
	}
	return &setWork{}, nil
}

func (w *setWork) carryOut() error { return nil }
func (w *setWork) finish() error   { return nil }
func (w *setWork) goBack() error   { return nil }
