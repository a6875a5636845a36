//go:build !linux

package guard

import (
	"errors"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

// Start, Inherited, Refuse and Service are there to be compiled.
func Start(*engine.Engine, string, string) error { return errors.ErrUnsupported }

// Inherited completes a guard.
func (g *Guard) Inherited(int, string, bool) error { return errors.ErrUnsupported }

// Refuse tells why there is none.
func Refuse(error) {}

// Service completes a guard.
func (g *Guard) Service(int, string) error { return errors.ErrUnsupported }
