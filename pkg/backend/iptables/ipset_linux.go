package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"syscall"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// linux/netfilter/ipset/ip_set.h
const (
	setProtocol = 6

	setCreate  = 2
	setDestroy = 3
	setSwap    = 6
	setList    = 7
	setAdd     = 9
	setDel     = 10
	setType    = 13

	setAttrProtocol = 1
	setAttrName     = 2
	setAttrType     = 3 // or the name of a second set
	setAttrRevision = 4
	setAttrFamily   = 5
	setAttrFlags    = 6
	setAttrData     = 7
	setAttrElements = 8 // many
	setAttrLine     = 9

	setAttrIP       = 1
	setAttrCIDR     = 3
	setAttrTimeout  = 6
	setAttrCADT     = 8
	setAttrHashSize = 18
	setAttrMax      = 19
	setAttrCount    = 24
	setAttrComment  = 26

	setHeaderOnly  = 1 << 2
	setNoMatch     = 1 << 2
	setWithComment = 1 << 4
)

func setMessage(cmd int) uint16 { return unix.NFNL_SUBSYS_IPSET<<8 | uint16(cmd) }

// setConn speaks to the sets of a namespace.
type setConn struct{ *nfnetlink.Conn }

func (b *Backend) dialSets() (*setConn, error) {
	var c *nfnetlink.Conn
	err := b.enter(func() (err error) {
		c, err = nfnetlink.Dial()
		return err
	})
	return &setConn{c}, err
}

// probeSets says whether the kernel has sets of prefixes of both families.
func (b *Backend) probeSets() bool {
	c, err := b.dialSets()
	if err != nil {
		return false
	}
	defer c.Close()
	for _, f := range families() {
		_, err := c.revision(f)
		if errors.Is(err, unix.EPERM) {
			return true // all else will be refused too
		}
		if err != nil {
			return false
		}
	}
	return true
}

// probeShifts says whether the kernel is one that keeps a port's place in a range.
func probeShifts() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 4 || major == 4 && minor >= 18
}

// revision is the newest form of the type that the kernel has.
func (c *setConn) revision(f ruleset.Family) (uint8, error) {
	revision := uint8(0)
	err := c.Get(setMessage(setType), uint8(f), func(e *nfnetlink.Encoder) {
		e.Uint8(setAttrProtocol, setProtocol)
		e.String(setAttrType, "hash:net")
		e.Uint8(setAttrFamily, uint8(f))
	}, func(m nfnetlink.Message) error {
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			if v := a.Bytes(); a.Type() == setAttrRevision && len(v) > 0 {
				revision = v[0]
			}
		}
		return nil
	})
	return revision, setError(err)
}

// setError tells the codes that are sets' own.
func setError(err error) error {
	var e *nfnetlink.Error
	if !errors.As(err, &e) || e.Errno < 4096 {
		return err
	}
	text := map[syscall.Errno]string{
		4098: "the kernel has no such type of set", 4099: "the kernel has no room for another set", 4100: "it is in use",
		4101: "there is one of that name", 4102: "it is of another type", 4103: "it is there already", 4108: "a rule uses it",
		4352: "the set is full",
	}[e.Errno]
	if text == "" {
		text = fmt.Sprintf("error %d of ip_set", uint(e.Errno))
	}
	return &setRefusal{text, e.Errno}
}

// setRefusal is an error of ip_set's own.
type setRefusal struct {
	text string
	syscall.Errno
}

func (e *setRefusal) Error() string { return e.text }
func (e *setRefusal) Unwrap() error { return e.Errno }

// readSets reads our sets. Where known has a set with the same elements, its are
// taken. Without elements, only digests are made.
func (b *Backend) readSets(known []*plan.Set, elements bool) ([]heldSet, error) {
	c, err := b.dialSets()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []heldSet
	err = c.Dump(setMessage(setList), unix.AF_UNSPEC, func(e *nfnetlink.Encoder) {
		e.Uint8(setAttrProtocol, setProtocol)
		e.Uint32(setAttrFlags|unix.NLA_F_NET_BYTEORDER, setHeaderOnly)
	}, func(m nfnetlink.Message) error {
		h := heldSet{set: &plan.Set{}}
		h.header(m)
		if strings.HasPrefix(h.set.Name, setPrefix) {
			out = append(out, h)
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return nil, nil // there is no ip_set
	case err != nil:
		return nil, fmt.Errorf("read the sets: %w", setError(err))
	}
	for i := range out {
		if err := c.elements(&out[i], elements); err != nil {
			return nil, fmt.Errorf("read the set %s: %w", out[i].set.Name, setError(err))
		}
		if elements {
			out[i].settle(known)
		}
	}
	return out, nil
}

// header reads what a set is.
func (h *heldSet) header(m nfnetlink.Message) {
	var kind string
	family, flags, count, timeout := uint8(0), uint32(0), uint32(0), false
	for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
		switch a.Type() {
		case setAttrName:
			h.set.Name = a.String()
		case setAttrType:
			kind = a.String()
		case setAttrFamily:
			if v := a.Bytes(); len(v) > 0 {
				family = v[0]
			}
		case setAttrData:
			for d := nfnetlink.Attributes(a.Bytes()); d.Next(); {
				switch d.Type() {
				case setAttrTimeout:
					timeout = true
				case setAttrCADT:
					flags = d.Uint32()
				case setAttrCount:
					count = d.Uint32()
				}
			}
		}
	}
	size := 4
	h.set.Attributes = kind
	switch family {
	case unix.NFPROTO_IPV4:
		h.set.Attributes += " inet"
	case unix.NFPROTO_IPV6:
		h.set.Attributes += " inet6"
		size = 16
	}
	if flags == setWithComment {
		h.set.Attributes += " comment"
	} else if flags != 0 || timeout {
		h.set.Attributes += fmt.Sprintf(" flags %#x timeout %t", flags, timeout)
	}
	h.set.Elements.KeyLen = size + 1
	h.readable = h.set.Attributes == ofIPv4 || h.set.Attributes == ofIPv6 || h.set.Attributes == ofEntries
	if !h.readable { // not one that we made
		h.set.Elements.KeyLen = 0
		h.set.Attributes += fmt.Sprintf(" of %d", count)
		h.digest.n = int(count)
	}
}

// elements reads the elements of a set.
func (c *setConn) elements(h *heldSet, keep bool) error {
	if !h.readable {
		return nil
	}
	record := make([]byte, 0, 512)
	return c.Dump(setMessage(setList), unix.AF_UNSPEC, func(e *nfnetlink.Encoder) {
		e.Uint8(setAttrProtocol, setProtocol)
		e.String(setAttrName, h.set.Name)
	}, func(m nfnetlink.Message) error {
		for typ, value, rest := nfnetlink.FirstAttribute(m.Attributes()); value != nil; typ, value, rest = nfnetlink.FirstAttribute(rest) {
			if typ != setAttrElements {
				continue
			}
			for _, data, more := nfnetlink.FirstAttribute(value); data != nil; _, data, more = nfnetlink.FirstAttribute(more) {
				record = elementRecord(record[:0], data)
				h.digest.add(record)
				if keep {
					if h.set.Elements.KeyLen > len(record) {
						return errors.New("an element has no address")
					}
					h.set.Elements.Append(plan.NoOrigin, record)
				}
			}
		}
		return nil
	})
}

// elementRecord is an element as in snapshots: address, length, comment. One that
// is an exception has a mark behind it, so that it is none of ours.
func elementRecord(out, data []byte) []byte {
	cidr, comment, exception := byte(0), []byte(nil), false
	for typ, value, rest := nfnetlink.FirstAttribute(data); value != nil; typ, value, rest = nfnetlink.FirstAttribute(rest) {
		switch typ {
		case setAttrIP:
			_, ip, _ := nfnetlink.FirstAttribute(value)
			out = append(out, ip...)
		case setAttrCIDR:
			if len(value) > 0 {
				cidr = value[0]
			}
		case setAttrComment:
			comment = value
			for len(comment) > 0 && comment[len(comment)-1] == 0 {
				comment = comment[:len(comment)-1]
			}
		case setAttrCADT:
			exception = len(value) == 4 && binary.BigEndian.Uint32(value)&setNoMatch != 0
		}
	}
	out = append(append(out, cidr), comment...)
	if exception {
		out = append(out, " nomatch"...)
	}
	return out
}

// create makes an empty set that has room for n elements at once.
func (c *setConn) create(name, attributes string, n int) error {
	family := ruleset.IPv4
	if attributes == ofIPv6 {
		family = ruleset.IPv6
	}
	revision, err := c.revision(family)
	if err != nil {
		return err
	}
	r := &nfnetlink.Requests{}
	r.Message(setMessage(setCreate), unix.NLM_F_CREATE|unix.NLM_F_EXCL, uint8(family))
	r.Uint8(setAttrProtocol, setProtocol)
	r.String(setAttrName, name)
	r.String(setAttrType, "hash:net")
	r.Uint8(setAttrRevision, revision)
	r.Uint8(setAttrFamily, uint8(family))
	data := r.Open(setAttrData | unix.NLA_F_NESTED)
	const smallest, bucket = 64, 4
	r.Uint32(setAttrHashSize|unix.NLA_F_NET_BYTEORDER, uint32(max(smallest, 1<<bits.Len(uint(n/bucket)))))
	r.Uint32(setAttrMax|unix.NLA_F_NET_BYTEORDER, maxElements)
	if attributes == ofEntries {
		r.Uint32(setAttrCADT|unix.NLA_F_NET_BYTEORDER, setWithComment)
	}
	r.Close(data)
	return c.do(r)
}

// do carries requests out and gives the first refusal.
func (c *setConn) do(r *nfnetlink.Requests) error {
	var first error
	err := c.Do(r, func(e *nfnetlink.Error) {
		if first == nil {
			first = e
		}
	})
	if err == nil {
		err = first
	}
	return setError(err)
}

// change adds elements to a set, or takes them out.
func (c *setConn) change(cmd int, name string, e *plan.Elements, which func(yield func(int) bool)) error {
	// A message holds what its list of 64 KiB does. The kernel does it whole,
	// before other messages.
	const most = 60 << 10
	r := &nfnetlink.Requests{}
	list, start, n := 0, 0, 0
	end := func() {
		if n > 0 {
			r.Close(list)
			r.Uint32(setAttrLine, 0)
			n = 0
		}
	}
	var failed error
	for i := range which {
		if n > 0 && r.Len()-start > most {
			end()
			if r.Len() > 1<<20 {
				if failed = c.do(r); failed != nil {
					break
				}
				r.Reset()
			}
		}
		if n == 0 {
			r.Message(setMessage(cmd), 0, unix.AF_UNSPEC)
			r.Uint8(setAttrProtocol, setProtocol)
			r.String(setAttrName, name)
			start, list = r.Len(), r.Open(setAttrElements|unix.NLA_F_NESTED)
		}
		n++
		record := e.At(i)
		size := e.KeyLen - 1
		data := r.Open(setAttrData | unix.NLA_F_NESTED)
		ip := r.Open(setAttrIP | unix.NLA_F_NESTED)
		kind := uint16(1)
		if size == 16 {
			kind = 2
		}
		r.Bytes(kind|unix.NLA_F_NET_BYTEORDER, record[:size])
		r.Close(ip)
		r.Uint8(setAttrCIDR, record[size])
		if comment := record[size+1:]; len(comment) > 0 && cmd == setAdd {
			r.String(setAttrComment, string(comment))
		}
		r.Close(data)
	}
	if failed == nil {
		end()
		failed = c.do(r)
	}
	if failed != nil {
		return fmt.Errorf("fill the set %s: %w", name, failed)
	}
	return nil
}

// named sends a request about a set, or about two.
func (c *setConn) named(cmd int, name, other string) error {
	r := &nfnetlink.Requests{}
	r.Message(setMessage(cmd), 0, unix.AF_UNSPEC)
	r.Uint8(setAttrProtocol, setProtocol)
	r.String(setAttrName, name)
	if other != "" {
		r.String(setAttrType, other)
	}
	return c.do(r)
}
