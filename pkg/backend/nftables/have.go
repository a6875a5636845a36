//go:build linux

package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// readAttempts bounds how often reading starts again because somebody changed
// the ruleset meanwhile.
const readAttempts = 20

// Have reads our table.
func (b *Backend) Have(ctx context.Context) (*plan.Snapshot, error) {
	if s, err := b.nothing(); s != nil || err != nil {
		return s, err
	}
	var s *plan.Snapshot
	anew := b.yetToOwn()
	err := b.dial(func(c *nfnetlink.Conn) error {
		for range readAttempts {
			if err := ctx.Err(); err != nil {
				return err
			}
			before, err := c.Generation()
			if err != nil {
				return unsupported(err)
			}
			r := &reader{ctx: ctx, backend: b, conn: c, snapshot: &plan.Snapshot{Generation: before}, entries: map[string]uint32{}, anew: anew}
			err = r.read()
			if err != nil && !errors.Is(err, nfnetlink.ErrInterrupted) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("read the table inet %s: %w", Table, err)
			}
			after, gerr := c.Generation()
			if gerr != nil {
				return gerr
			}
			if err == nil && before == after {
				s = r.snapshot
				return nil
			}
			if errors.Is(err, unix.ENOENT) && before == after {
				return fmt.Errorf("read the table inet %s: %w", Table, err)
			}
		}
		return fmt.Errorf("read the table inet %s: %w (%d times in a row)", Table, backend.ErrStale, readAttempts)
	})
	return s, err
}

// nothing gives an empty snapshot where there is no table, by the socket that is
// kept: to close one of its own would wait until what somebody has just removed
// is freed. It gives nil where there is anything, or no such socket.
func (b *Backend) nothing() (s *plan.Snapshot, err error) {
	if !b.keeps() {
		return nil, nil
	}
	err = b.over(func(c *nfnetlink.Conn) error {
		before, err := c.Generation()
		if err != nil {
			return unsupported(err)
		}
		there, _, err := tableFlags(c)
		if err != nil || there {
			return err
		}
		after, err := c.Generation()
		if err == nil && before == after {
			s = &plan.Snapshot{Generation: before}
		}
		return err
	})
	return s, err
}

// reader fills a snapshot from the kernel.
type reader struct {
	ctx      context.Context
	backend  *Backend
	conn     *nfnetlink.Conn
	snapshot *plan.Snapshot
	entries  map[string]uint32 // index in snapshot.Origins, by entry
	// after is the commit behind which this reads, nil where nothing is known.
	after *plan.Changes
	// counts are how many elements the kernel says that sets have, by name.
	// Kernels before 6.16 do not say.
	counts map[string]uint32
	// anew says that the table is yet to be taken over.
	anew bool
}

func (r *reader) read() error {
	there, anew, err := r.table()
	if err != nil || !there {
		return err
	}
	if err := r.chains(anew); err != nil {
		return err
	}
	if err := r.rules(); err != nil {
		return err
	}
	if err := r.sets(); err != nil {
		return err
	}
	if err := r.objects(); err != nil {
		return err
	}
	if err := r.flowtables(); err != nil {
		return err
	}
	r.snapshot.Normalize()
	return nil
}

// table asks whether our table is there, and whether it is to be made anew:
// somebody put it to sleep, or it is to have another owner.
func (r *reader) table() (there, anew bool, err error) {
	there, flags, err := tableFlags(r.conn)
	return there, flags&nftTableDormant != 0 || r.anew, err
}

// dump asks for all objects of a kind in our table. The kernel may not know
// the filter and give more.
func (r *reader) dump(msg int, tableAttribute uint16, more func(*nfnetlink.Encoder), each func(p []byte) error) error {
	return r.conn.Dump(nfnetlink.Nftables(msg), unix.NFPROTO_INET, func(e *nfnetlink.Encoder) {
		e.String(tableAttribute, Table)
		if more != nil {
			more(e)
		}
	}, func(m nfnetlink.Message) error { return each(m.Attributes()) })
}

// chains reads the chains. Those of a table that is to be made anew are none
// that could stay, whatever the kernel tells of them.
func (r *reader) chains(anew bool) error {
	return r.dump(unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, nil, func(p []byte) error {
		table, name, attributes := parseChain(p)
		if table != Table {
			return nil
		}
		if anew && attributes != "" {
			attributes += foreignMark
		}
		r.snapshot.Chains = append(r.snapshot.Chains, plan.Chain{Name: name, Attributes: attributes})
		return nil
	})
}

func (r *reader) rules() error {
	byName := map[string]*plan.Chain{}
	for i := range r.snapshot.Chains {
		byName[r.snapshot.Chains[i].Name] = &r.snapshot.Chains[i]
	}
	return r.dump(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, nil, func(p []byte) error {
		var table, chain string
		var rule plan.Rule
		for a := nfnetlink.Attributes(p); a.Next(); {
			switch a.Type() {
			case unix.NFTA_RULE_TABLE:
				table = a.String()
			case unix.NFTA_RULE_CHAIN:
				chain = a.String()
			case unix.NFTA_RULE_EXPRESSIONS:
				rule.Body = accepted(append([]byte(nil), a.Bytes()...))
			case unix.NFTA_RULE_USERDATA:
				rule.Origin.Entry = string(comment(a.Bytes()))
			}
		}
		if c := byName[chain]; table == Table && c != nil {
			c.Rules = append(c.Rules, rule)
		}
		return nil
	})
}

func (r *reader) sets() error {
	err := r.dump(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, nil, func(p []byte) error {
		var table, name string
		var count uint32
		told := false
		for a := nfnetlink.Attributes(p); a.Next(); {
			switch a.Type() {
			case unix.NFTA_SET_TABLE:
				table = a.String()
			case unix.NFTA_SET_NAME:
				name = a.String()
			case nftaSetCount:
				count, told = a.Uint32(), true
			}
		}
		if table == Table {
			if told && r.counts != nil {
				r.counts[name] = count
			}
			spec := parseSpec(p)
			r.snapshot.Sets = append(r.snapshot.Sets, &plan.Set{
				Name: name, Attributes: spec.attributes(), Origin: ruleset.Origin{Entry: spec.comment},
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.contents()
}

// contents reads the elements of all sets but those that rules fill. Those of large ones are read side by
// side, each over a socket of its own, since a dump keeps one CPU busy; the
// generation tells afterwards whether all of them saw the same.
func (r *reader) contents() error {
	var large []*plan.Set
	for _, s := range r.snapshot.Sets {
		spec := parseSpec([]byte(s.Attributes))
		switch {
		case spec.dynamic():
			s.Elements.KeyLen = spec.recordKey()
			continue
		case r.known(s):
			continue
		case spec.size > 0:
			large = append(large, s)
			continue
		}
		if err := r.settled(s); err != nil {
			return fmt.Errorf("elements of %s: %w", s.Name, err)
		}
	}
	parts := make([]*plan.Snapshot, len(large))
	errs := make([]error, len(large))
	var group sync.WaitGroup
	free := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	for i, s := range large {
		group.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			errs[i] = r.backend.dial(func(c *nfnetlink.Conn) error {
				part := &reader{ctx: r.ctx, backend: r.backend, conn: c, snapshot: &plan.Snapshot{}, entries: map[string]uint32{}}
				parts[i] = part.snapshot
				return part.settled(s)
			})
		})
	}
	group.Wait()
	for i, s := range large {
		if errs[i] != nil {
			return fmt.Errorf("elements of %s: %w", s.Name, errs[i])
		}
		s.Elements.Rebase(uint32(len(r.snapshot.Origins)))
		r.snapshot.Origins = append(r.snapshot.Origins, parts[i].Origins...)
	}
	return nil
}

// settled reads the elements of a set until none comes twice. For a while after
// many came or went the kernel moves those of a hash to a table of another
// size, in the background and with no generation of its own, and a dump at
// that time has some elements twice and lacks others. It never has fewer in
// all than there are, so where none comes twice none is missing.
func (r *reader) settled(s *plan.Set) error {
	attributes := s.Attributes
	for attempt := range readAttempts {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		s.Attributes, s.Elements = attributes, plan.Elements{}
		if err := r.elements(s); err != nil {
			return err
		}
		s.Elements.Sort()
		if !twice(&s.Elements) {
			return nil
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(time.Millisecond << min(attempt, 8)):
		}
	}
	return fmt.Errorf("the kernel tells some twice (%d times in a row)", readAttempts)
}

// twice says whether two sorted elements have the same key.
func twice(e *plan.Elements) bool {
	for i := 1; i < e.Len(); i++ {
		if bytes.Equal(e.KeyAt(i-1), e.KeyAt(i)) {
			return true
		}
	}
	return false
}

func counterValues(p []byte) (packets, bytes uint64) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_COUNTER_BYTES:
			bytes = a.Uint64()
		case unix.NFTA_COUNTER_PACKETS:
			packets = a.Uint64()
		}
	}
	return packets, bytes
}
