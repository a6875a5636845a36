//go:build !linux

package conntrack

import (
	"context"
	"errors"
	"fmt"
)

// Watch needs Linux.
type Watch struct{}

// Listen needs Linux.
func Listen(ListenOptions) (*Watch, error) {
	return nil, fmt.Errorf("watch connections: needs Linux: %w", errors.ErrUnsupported)
}

// Close needs Linux.
func (*Watch) Close() error { return nil }

// Buffer needs Linux.
func (*Watch) Buffer() int { return 0 }

// Port needs Linux.
func (*Watch) Port() uint32 { return 0 }

// Lost needs Linux.
func (*Watch) Lost() (uint32, error) { return 0, errors.ErrUnsupported }

// Run needs Linux.
func (*Watch) Run(context.Context, func(*Event) error, func() error) error {
	return fmt.Errorf("watch connections: needs Linux: %w", errors.ErrUnsupported)
}
