//go:build !linux

package conntrack

import (
	"errors"
	"fmt"
)

// Conn needs Linux.
type Conn struct{}

// Open needs Linux.
func Open() (*Conn, error) {
	return nil, fmt.Errorf("open connection tracking: needs Linux: %w", errors.ErrUnsupported)
}

// Close needs Linux.
func (*Conn) Close() error { return nil }

// Translated needs Linux.
func (*Conn) Translated(func(Flow) bool) error {
	return fmt.Errorf("list translated connections: needs Linux: %w", errors.ErrUnsupported)
}

// Delete needs Linux.
func (*Conn) Delete(f Flow) error {
	return fmt.Errorf("delete connection %s: needs Linux: %w", f, errors.ErrUnsupported)
}

// Failures needs Linux.
func (*Conn) Failures() (Failures, error) {
	return Failures{}, fmt.Errorf("read the statistics of connection tracking: needs Linux: %w", errors.ErrUnsupported)
}

// Sources needs Linux.
func Sources(func(Flow) bool) error {
	return fmt.Errorf("list connections with a translated source: needs Linux: %w", errors.ErrUnsupported)
}
