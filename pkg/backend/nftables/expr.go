//go:build linux

package nftables

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// register gives the number of the register at a word offset in the form that
// the kernel dumps: a 128-bit register where the offset is a multiple of four
// words, a 32-bit one elsewhere.
func register(word int) uint32 {
	if word%4 == 0 {
		return uint32(unix.NFT_REG_1 + word/4)
	}
	return uint32(unix.NFT_REG32_00 + word)
}

// expressions encodes a rule's matches, statements and action as the content of
// NFTA_RULE_EXPRESSIONS.
func expressions(r *ruleset.Rule, sets map[string]*ruleset.Set) ([]byte, error) {
	e := &expressionEncoder{sets: sets}
	for _, m := range r.Matches {
		if err := e.match(m); err != nil {
			return nil, err
		}
	}
	for _, s := range r.Do {
		if err := e.statement(s); err != nil {
			return nil, err
		}
	}
	if r.Counter != "" {
		e.object(r.Counter, unix.NFT_OBJECT_COUNTER)
	}
	if err := e.action(r.Action, sets); err != nil {
		return nil, err
	}
	return e.Written(), nil
}

type expressionEncoder struct {
	nfnetlink.Encoder
	sets map[string]*ruleset.Set
}

// open writes one expression with the attributes that data writes.
func (e *expressionEncoder) open(name string, data func()) {
	elem := e.Open(unix.NFTA_LIST_ELEM)
	e.String(unix.NFTA_EXPR_NAME, name)
	d := e.Open(unix.NFTA_EXPR_DATA)
	data()
	e.Close(d)
	e.Close(elem)
}

// value writes a nested NFTA_DATA_VALUE.
func (e *expressionEncoder) value(typ uint16, v []byte) {
	n := e.Open(typ)
	e.Bytes(unix.NFTA_DATA_VALUE, v)
	e.Close(n)
}

func (e *expressionEncoder) match(m ruleset.Match) error {
	switch m.Op {
	case ruleset.In, ruleset.NotIn:
		if slices.Contains(m.Fields, ruleset.FibDaddrOIfName) || slices.Contains(m.Fields, ruleset.FibSaddrOIfName) {
			return errors.New("nft(8) 1.0.6 looks up no name of an interface that fib gives")
		}
		flags := uint32(0)
		if m.Op == ruleset.NotIn {
			flags = unix.NFT_LOOKUP_F_INV
		}
		e.loadKey(m.Fields, e.sets[m.Set])
		e.lookup(m.Set, false, 0, flags)
		return nil
	}
	if len(m.Fields) != 1 {
		return fmt.Errorf("a comparison of %d fields", len(m.Fields))
	}
	field := m.Fields[0]
	switch m.Op {
	case ruleset.Equal, ruleset.NotEqual:
		op := uint32(unix.NFT_CMP_EQ)
		if m.Op == ruleset.NotEqual {
			op = unix.NFT_CMP_NEQ
		}
		e.equal(field, m.Value, m.Bits, op)
	case ruleset.Between:
		if inHostOrder(field.Type()) {
			return fmt.Errorf("a range of a field in host byte order, %s", fieldName(field, "th"))
		}
		e.loadField(field, 0, field.Type().Size())
		e.compare(unix.NFT_CMP_GTE, m.Value)
		e.compare(unix.NFT_CMP_LTE, m.High)
	case ruleset.AnyOf:
		size := field.Type().Size()
		e.loadField(field, 0, size)
		e.bitwise(kernelOrder(field.Type(), m.Value))
		e.compare(unix.NFT_CMP_NEQ, make([]byte, size))
	case ruleset.Masked, ruleset.NotMasked:
		op := uint32(unix.NFT_CMP_EQ)
		if m.Op == ruleset.NotMasked {
			op = unix.NFT_CMP_NEQ
		}
		e.loadField(field, 0, field.Type().Size())
		e.bitwise(kernelOrder(field.Type(), m.High))
		e.compare(op, kernelOrder(field.Type(), m.Value))
	}
	return nil
}

// equal compares a field, or its first bits. As nft does, whole bytes of an
// address are compared by loading fewer of them.
func (e *expressionEncoder) equal(f ruleset.Field, value []byte, bits int, op uint32) {
	size := f.Type().Size()
	value = kernelOrder(f.Type(), value)
	switch {
	case bits == 0 || bits == size*8:
		e.loadField(f, 0, size)
		e.compare(op, value[:size])
	case f.Type() == ruleset.IfName:
		e.loadField(f, 0, size)
		e.compare(op, value[:bits/8])
	case bits%8 == 0:
		e.loadField(f, 0, bits/8)
		e.compare(op, value[:bits/8])
	default:
		mask := make([]byte, size)
		for i := range bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		e.loadField(f, 0, size)
		e.bitwise(mask)
		e.compare(op, value[:size])
	}
}

// load puts fields into registers, one behind the other from the first on.
func (e *expressionEncoder) load(fields []ruleset.Field) { e.loadKey(fields, nil) }

// loadKey does so for the key of a set. nft(8) takes the protocol for a value
// in the order of the host, and turns it where the order matters; a byte has
// none, but the rules have to be the same.
func (e *expressionEncoder) loadKey(fields []ruleset.Field, set *ruleset.Set) {
	turned := set != nil && set.Interval && len(fields) > 1
	word := 0
	for _, f := range fields {
		e.loadField(f, word, f.Type().Size())
		if f == ruleset.L4Proto && turned {
			e.hostToNetwork(register(word), 1)
		}
		word += f.Type().Padded() / 4
	}
}

// loadField puts the first size bytes of a field into the register at word.
func (e *expressionEncoder) loadField(f ruleset.Field, word, size int) {
	reg := register(word)
	switch f {
	case ruleset.IIfName:
		e.meta(unix.NFT_META_IIFNAME, reg)
	case ruleset.IIf:
		e.meta(unix.NFT_META_IIF, reg)
	case ruleset.OIfName:
		e.meta(unix.NFT_META_OIFNAME, reg)
	case ruleset.NFProtoField:
		e.meta(unix.NFT_META_NFPROTO, reg)
	case ruleset.L4Proto:
		e.meta(unix.NFT_META_L4PROTO, reg)
	case ruleset.IPSaddr:
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 12, size, reg)
	case ruleset.IPDaddr:
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 16, size, reg)
	case ruleset.IP6Saddr:
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 8, size, reg)
	case ruleset.IP6Daddr:
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 24, size, reg)
	case ruleset.IP6HopLimit:
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 7, size, reg)
	case ruleset.SrcPort:
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, size, reg)
	case ruleset.DstPort:
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, size, reg)
	case ruleset.ICMPTypeField, ruleset.ICMPv6TypeField:
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, size, reg)
	case ruleset.CtStateField:
		e.ct(unix.NFT_CT_STATE, reg, -1)
	case ruleset.CtStatusField:
		e.ct(unix.NFT_CT_STATUS, reg, -1)
	case ruleset.CtDirection:
		e.ct(unix.NFT_CT_DIRECTION, reg, -1)
	case ruleset.CtOrigProtoDst:
		e.ct(unix.NFT_CT_PROTO_DST, reg, 0)
	case ruleset.CtOrigIPSaddr:
		e.ct(unix.NFT_CT_SRC_IP, reg, 0)
	case ruleset.CtOrigIPDaddr:
		e.ct(unix.NFT_CT_DST_IP, reg, 0)
	case ruleset.CtOrigIP6Saddr:
		e.ct(unix.NFT_CT_SRC_IP6, reg, 0)
	case ruleset.CtOrigIP6Daddr:
		e.ct(unix.NFT_CT_DST_IP6, reg, 0)
	case ruleset.CtReplyIPDaddr:
		e.ct(unix.NFT_CT_DST_IP, reg, 1)
	case ruleset.CtReplyIP6Daddr:
		e.ct(unix.NFT_CT_DST_IP6, reg, 1)
	case ruleset.FibDaddrType:
		e.fib(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR, reg)
	case ruleset.FibDaddrIifType:
		e.fib(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR|unix.NFTA_FIB_F_IIF, reg)
	case ruleset.FibSaddrOifType:
		e.fib(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_OIF, reg)
	case ruleset.FibSaddrType:
		e.fib(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_SADDR, reg)
	case ruleset.FibSaddrIif:
		e.fib(unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF|unix.NFTA_FIB_F_PRESENT, reg)
	case ruleset.FibDaddrOIfName:
		e.fib(unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_DADDR, reg)
	case ruleset.MetaMark:
		e.meta(unix.NFT_META_MARK, reg)
	case ruleset.CtMark:
		e.ct(unix.NFT_CT_MARK, reg, -1)
	case ruleset.TCPFlagsField:
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 13, size, reg)
	case ruleset.FibSaddrOIfName:
		e.fib(unix.NFT_FIB_RESULT_OIFNAME, unix.NFTA_FIB_F_SADDR, reg)
	}
}

func (e *expressionEncoder) meta(key, reg uint32) {
	e.open("meta", func() {
		e.Uint32(unix.NFTA_META_KEY, key)
		e.Uint32(unix.NFTA_META_DREG, reg)
	})
}

func (e *expressionEncoder) payload(base, offset uint32, size int, reg uint32) {
	e.open("payload", func() {
		e.Uint32(unix.NFTA_PAYLOAD_DREG, reg)
		e.Uint32(unix.NFTA_PAYLOAD_BASE, base)
		e.Uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.Uint32(unix.NFTA_PAYLOAD_LEN, uint32(size))
	})
}

func (e *expressionEncoder) ct(key, reg uint32, direction int) {
	e.open("ct", func() {
		e.Uint32(unix.NFTA_CT_DREG, reg)
		e.Uint32(unix.NFTA_CT_KEY, key)
		if direction >= 0 {
			e.Uint8(unix.NFTA_CT_DIRECTION, uint8(direction))
		}
	})
}

func (e *expressionEncoder) fib(result, flags, reg uint32) {
	e.open("fib", func() {
		e.Uint32(unix.NFTA_FIB_DREG, reg)
		e.Uint32(unix.NFTA_FIB_RESULT, result)
		e.Uint32(unix.NFTA_FIB_FLAGS, flags)
	})
}

func (e *expressionEncoder) compare(op uint32, value []byte) {
	e.open("cmp", func() {
		e.Uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_CMP_OP, op)
		e.value(unix.NFTA_CMP_DATA, value)
	})
}

func (e *expressionEncoder) bitwise(mask []byte) { e.bitwiseXor(mask, make([]byte, len(mask))) }

func (e *expressionEncoder) lookup(set string, isMap bool, dreg, flags uint32) {
	e.open("lookup", func() {
		e.String(unix.NFTA_LOOKUP_SET, set)
		e.Uint32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1)
		if isMap {
			e.Uint32(unix.NFTA_LOOKUP_DREG, dreg)
		}
		e.Uint32(unix.NFTA_LOOKUP_FLAGS, flags)
	})
}
