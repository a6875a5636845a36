package iptables

import (
	"context"
	"hash/maphash"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/plan"
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
	h, err := b.again(ctx)
	if err != nil {
		return 0, err
	}
	return h.generation(nil), nil
}

// again gives the digests of what is there. The rules are read only where they
// may have changed since they were last.
func (b *Backend) again(ctx context.Context) (*held, error) {
	look := b.look()
	b.mu.Lock()
	last := b.last
	b.mu.Unlock()
	if look != 0 && look == last.look {
		// Sets have no generation.
		sets, err := b.readSets(nil, false)
		if err != nil {
			return nil, err
		}
		return &held{rules: last.rules, sets: sets}, nil
	}
	if err := b.known(ctx); err != nil {
		return nil, err
	}
	return b.seen(ctx, look, nil, false)
}

// seen is read, and remembers what the kernel looked like right before.
func (b *Backend) seen(ctx context.Context, look uint64, known []*plan.Set, elements bool) (*held, error) {
	h, err := b.read(ctx, known, elements)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.last = seen{look, h.rules}
	b.mu.Unlock()
	return h, nil
}
