//go:build !linux

package iptables

import (
	"context"
	"errors"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// Timeout objects need Linux.
func (b *Backend) timeouts() ([]found, error) { return nil, errors.ErrUnsupported }

func (b *Backend) makeTimeouts(*plan.Changes) error { return errors.ErrUnsupported }

func (b *Backend) dropTimeouts(context.Context, *plan.Changes) error { return errors.ErrUnsupported }
