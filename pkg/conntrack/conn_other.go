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

// Count needs Linux.
func (*Conn) Count() (entries, limit uint32, err error) {
	return 0, 0, fmt.Errorf("count the entries of connection tracking: needs Linux: %w", errors.ErrUnsupported)
}

// Expectations needs Linux.
func (*Conn) Expectations(func(*Expectation) bool) error {
	return fmt.Errorf("list expectations: needs Linux: %w", errors.ErrUnsupported)
}

// List needs Linux.
func (*Conn) List(*Filter, func(*Flow) bool) error {
	return fmt.Errorf("list connections: needs Linux: %w", errors.ErrUnsupported)
}

// DeleteAll needs Linux.
func (*Conn) DeleteAll([]Flow) (int, error) {
	return 0, fmt.Errorf("delete connections: needs Linux: %w", errors.ErrUnsupported)
}

// Divert needs Linux.
func (*Conn) Divert([]Diversion) (int, error) {
	return 0, fmt.Errorf("divert connections: needs Linux: %w", errors.ErrUnsupported)
}
