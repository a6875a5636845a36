package iptables

import (
	"context"
	"hash/maphash"

	"github.com/ipmasq/ipmasq/pkg/foreign"
)

// seen is what was read last, and what the kernel looked like right before that.
// Reading runs two programs; to look takes a question or two.
type seen struct {
	look  uint64
	rules uint32
}

// look is something that changes whenever rules of the variant do: the kernel's
// generation of nf_tables, or a digest of the tables of ip_tables. Zero is where
// it cannot be told.
func (b *Backend) look() (look uint64) {
	_ = b.enter(func() error {
		if b.variant == nftVariant {
			g, err := generation()
			look = uint64(g)
			return err
		}
		var h maphash.Hash
		h.SetSeed(b.seed)
		err := foreign.WriteLegacy(&h)
		if err == nil {
			look = max(h.Sum64(), 1)
		}
		return err
	})
	return look
}

// Probe gives the digest of all rules, which are read only where they may have
// changed since they were last, and of our sets. It is [backend.ErrNotSupported]
// where the kernel has no tables of the variant.
func (b *Backend) Probe(ctx context.Context) (uint32, error) {
	look := b.look()
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	if look != 0 && look == last.look {
		// Sets have no generation.
		sets, err := b.readSets(nil, false)
		if err != nil {
			return 0, err
		}
		return (&held{rules: last.rules, sets: sets}).generation(nil), nil
	}
	if err := b.known(ctx); err != nil {
		return 0, err
	}
	h, err := b.read(ctx, nil, false)
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	b.last = seen{look, h.rules}
	b.mu.Unlock()
	return h.generation(nil), nil
}
