//go:build !linux

package link

import (
	"errors"
	"fmt"
	"net/netip"
)

// Read needs Linux.
func Read() (Facts, error) {
	return Facts{}, fmt.Errorf("read links and routes: needs Linux: %w", errors.ErrUnsupported)
}

// ReadRoutes needs Linux.
func ReadRoutes() (*Routes, error) {
	return nil, fmt.Errorf("read routes: needs Linux: %w", errors.ErrUnsupported)
}

// Neighbors needs Linux.
func Neighbors() ([]Neighbor, error) {
	return nil, fmt.Errorf("list neighbours: needs Linux: %w", errors.ErrUnsupported)
}

// Way needs Linux.
func Way(to netip.Addr) (string, error) {
	return "", fmt.Errorf("look up the route to %s: needs Linux: %w", to, errors.ErrUnsupported)
}

// OpenNetNS needs Linux.
func OpenNetNS(nameOrPath string) (*NetNS, error) {
	return nil, fmt.Errorf("open network namespace %q: needs Linux: %w", nameOrPath, errors.ErrUnsupported)
}

// Do needs Linux.
func (n *NetNS) Do(func() error) error {
	return fmt.Errorf("enter a network namespace: needs Linux: %w", errors.ErrUnsupported)
}

// Add needs Linux.
func (r Routing) Add() error {
	return fmt.Errorf("add routes: needs Linux: %w", errors.ErrUnsupported)
}

// Remove needs Linux.
func (r Routing) Remove() error {
	return fmt.Errorf("remove routes: needs Linux: %w", errors.ErrUnsupported)
}

// Make needs Linux.
func (h Host) Make(*NetNS, func(int) string) error {
	return fmt.Errorf("make a host: needs Linux: %w", errors.ErrUnsupported)
}

// StopResolving needs Linux.
func (h Host) StopResolving() error {
	return fmt.Errorf("make a host: needs Linux: %w", errors.ErrUnsupported)
}

// Watcher needs Linux.
type Watcher struct{}

// Changed is what kind of thing has changed.
type Changed struct{ Host, Settings bool }

// Watch needs Linux.
func Watch() (*Watcher, error) {
	return nil, fmt.Errorf("watch links: needs Linux: %w", errors.ErrUnsupported)
}

// Next needs Linux.
func (w *Watcher) Next() (Changed, error) {
	return Changed{}, fmt.Errorf("watch links: needs Linux: %w", errors.ErrUnsupported)
}

// Close needs Linux.
func (w *Watcher) Close() error { return nil }

// Leaves needs Linux.
func (p *Passage) Leaves() (string, error) {
	return "", fmt.Errorf("route %s: needs Linux: %w", p.Destination, errors.ErrUnsupported)
}

// IPsecPolicies needs Linux.
func IPsecPolicies() ([]IPsecPolicy, error) {
	return nil, fmt.Errorf("list IPsec policies: needs Linux: %w", errors.ErrUnsupported)
}
