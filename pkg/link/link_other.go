//go:build !linux

package link

import (
	"errors"
	"fmt"
)

// Read needs Linux.
func Read() (Facts, error) {
	return Facts{}, fmt.Errorf("read links and routes: needs Linux: %w", errors.ErrUnsupported)
}

// OpenNetNS needs Linux.
func OpenNetNS(nameOrPath string) (*NetNS, error) {
	return nil, fmt.Errorf("open network namespace %q: needs Linux: %w", nameOrPath, errors.ErrUnsupported)
}

// Do needs Linux.
func (n *NetNS) Do(func() error) error {
	return fmt.Errorf("enter a network namespace: needs Linux: %w", errors.ErrUnsupported)
}
