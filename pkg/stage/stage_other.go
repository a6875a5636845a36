//go:build !linux

package stage

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/simulate"
)

type stage struct{}

// Enter needs Linux.
func Enter() error { return fmt.Errorf("%w: it needs Linux", ErrNoStage) }

// Fresh needs Linux.
func (g *Gateway) Fresh() error { return fmt.Errorf("%w: it needs Linux", ErrNoStage) }

// Send needs Linux.
func (g *Gateway) Send(simulate.Packet) (Seen, error) {
	return Seen{}, fmt.Errorf("%w: it needs Linux", ErrNoStage)
}

// Close needs Linux.
func (g *Gateway) Close() error { return nil }
