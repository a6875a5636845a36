//go:build !linux

package foreign

import (
	"errors"
	"fmt"
)

// Read needs Linux.
func Read() (*Rules, error) {
	return nil, fmt.Errorf("read the rules of others: needs Linux: %w", errors.ErrUnsupported)
}

// Chains needs Linux.
func Chains() (*Rules, error) { return Read() }
