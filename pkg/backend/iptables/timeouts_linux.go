package iptables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// Messages and attributes of timeout objects (uapi/linux/netfilter/
// nfnetlink_cttimeout.h).
const (
	timeoutNew    = unix.NFNL_SUBSYS_CTNETLINK_TIMEOUT << 8
	timeoutGet    = unix.NFNL_SUBSYS_CTNETLINK_TIMEOUT<<8 | 1
	timeoutDelete = unix.NFNL_SUBSYS_CTNETLINK_TIMEOUT<<8 | 2

	ctaTimeoutName    = 1
	ctaTimeoutL3Proto = 2
	ctaTimeoutL4Proto = 3
	ctaTimeoutData    = 4
)

// timeouts are our timeout objects that the kernel has. A kernel that has none
// at all (CONFIG_NF_CT_NETLINK_TIMEOUT) has none of ours.
func (b *Backend) timeouts() ([]found, error) {
	var out []found
	err := b.enter(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Dump(timeoutGet, unix.AF_UNSPEC, nil, func(m nfnetlink.Message) error {
			if o, ours := parseTimeout(m.Attributes()); ours {
				out = append(out, o)
			}
			return nil
		})
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the timeout objects: %w", err)
	}
	return out, nil
}

// parseTimeout reads an object. What the policy does not name is what the host
// had when it was made.
func parseTimeout(p []byte) (o found, ours bool) {
	o.values = map[uint16]uint32{}
	family, protocol := uint16(0), uint8(0)
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case ctaTimeoutName:
			o.name = a.String()
		case ctaTimeoutL3Proto:
			if v := a.Bytes(); len(v) == 2 {
				family = binary.BigEndian.Uint16(v)
			}
		case ctaTimeoutL4Proto:
			if v := a.Bytes(); len(v) == 1 {
				protocol = v[0]
			}
		case ctaTimeoutData:
			for s := nfnetlink.Attributes(a.Bytes()); s.Next(); {
				o.values[s.Type()] = s.Uint32()
			}
		}
	}
	k, ours := timeoutKindOf(o.name)
	return o, ours && uint16(k.family) == family && k.protocol == protocol
}

// request sends one request, and gives the kernel's refusal.
func (b *Backend) request(typ, flags uint16, attributes func(*nfnetlink.Encoder)) error {
	return b.enter(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		r := &nfnetlink.Requests{}
		r.Message(typ, flags, unix.AF_UNSPEC)
		attributes(&r.Encoder)
		var refused error
		if err := c.Do(r, func(e *nfnetlink.Error) { refused = e }); err != nil {
			return err
		}
		return refused
	})
}

// makeTimeouts makes the objects that rules are to refer to.
func (b *Backend) makeTimeouts(changes *plan.Changes) error {
	for _, x := range changes.Objects {
		if x.To < 0 || x.Kind == plan.Keep {
			continue
		}
		o := &changes.To.Objects[x.To]
		if o.Kind != plan.CtTimeout {
			continue
		}
		flags := uint16(unix.NLM_F_CREATE)
		if x.Kind == plan.Replace {
			flags |= unix.NLM_F_REPLACE
		} else {
			flags |= unix.NLM_F_EXCL
		}
		err := b.request(timeoutNew, flags, func(e *nfnetlink.Encoder) { encodeTimeout(e, o) })
		if errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: the module nfnetlink_cttimeout (CONFIG_NF_CT_NETLINK_TIMEOUT) is missing: %w", backend.ErrNotSupported, err)
		}
		if err != nil {
			return &backend.Refused{Object: o.String(), Origin: o.Origin, Err: err}
		}
	}
	return nil
}

func encodeTimeout(e *nfnetlink.Encoder, o *plan.Object) {
	k, _ := timeoutKindOf(o.Name)
	values := timeoutValues(o)
	e.String(ctaTimeoutName, o.Name)
	e.Uint16(ctaTimeoutL3Proto, uint16(k.family))
	e.Uint8(ctaTimeoutL4Proto, k.protocol)
	n := e.Open(ctaTimeoutData)
	for _, s := range backend.TimeoutStates(k.protocol) {
		if v, named := values[s.Attribute]; named {
			e.Uint32(s.Attribute, v)
		}
	}
	e.Close(n)
}

// How long an object may be in use after the rules that used it are gone. The
// kernel frees rules of the nft variant some time after the commit.
const (
	letGo      = 2 * time.Second
	letGoSteps = 5 * time.Millisecond
)

// dropTimeouts removes the objects that no rule of ours refers to any more.
// Open flows that had their timeouts get the host's from the kernel.
func (b *Backend) dropTimeouts(ctx context.Context, changes *plan.Changes) error {
	for _, x := range changes.Objects {
		if x.From < 0 || x.To >= 0 {
			continue
		}
		o := &changes.From.Objects[x.From]
		if o.Kind != plan.CtTimeout {
			continue
		}
		for deadline := time.Now().Add(letGo); ; {
			err := b.request(timeoutDelete, 0, func(e *nfnetlink.Encoder) { e.String(ctaTimeoutName, o.Name) })
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				if errors.Is(err, unix.EBUSY) {
					err = fmt.Errorf("rules that are not ours use it: %w", err)
				}
				return &backend.Refused{Object: o.String(), Origin: o.Origin, Err: err}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(letGoSteps):
			}
		}
	}
	return nil
}
