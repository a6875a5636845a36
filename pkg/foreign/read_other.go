//go:build !linux

package foreign

import (
	"errors"
	"fmt"
	"io"
)

// Read needs Linux.
func Read() (*Rules, error) {
	return nil, fmt.Errorf("read the rules of others: needs Linux: %w", errors.ErrUnsupported)
}

// Chains needs Linux.
func Chains() (*Rules, error) { return Read() }

// WriteLegacy needs Linux.
func WriteLegacy(io.Writer) error {
	return fmt.Errorf("read the rules of iptables-legacy: needs Linux: %w", errors.ErrUnsupported)
}

// AnyLegacy is not so elsewhere.
func AnyLegacy() bool { return false }

// HasLegacy is not so elsewhere.
func HasLegacy() bool { return false }

// AskLegacy finds none elsewhere.
func AskLegacy(bool, string) error { return ErrNoTables }
