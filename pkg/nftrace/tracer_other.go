//go:build !linux

package nftrace

// Tracer needs Linux.
type Tracer struct{ Events <-chan Event }

// Start needs Linux.
func Start(Packets) (*Tracer, error) { return nil, ErrNotSupported }

// Read needs Linux.
func Read() (*Chains, error) { return nil, ErrNotSupported }

// Close needs Linux.
func (t *Tracer) Close() error { return nil }

// Err needs Linux.
func (t *Tracer) Err() error { return ErrNotSupported }

// TableName needs Linux.
func (t *Tracer) TableName() string { return "" }
