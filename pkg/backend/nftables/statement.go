//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

func (e *expressionEncoder) statement(s ruleset.Statement) error {
	switch s.Kind {
	case ruleset.RateUnder, ruleset.RateOver:
		if s.Set != "" {
			// Each packet puts off the end of its key.
			e.each(s, unix.NFT_DYNSET_OP_UPDATE, func() { e.limit(s) })
		} else {
			e.open("limit", func() { e.limitData(s) })
		}
	case ruleset.CountOver:
		e.each(s, unix.NFT_DYNSET_OP_ADD, func() { e.connlimit(s.Count) })
	case ruleset.Log:
		e.log(s.Log)
	case ruleset.SetMark:
		e.changeMark(s, func() { e.meta(unix.NFT_META_MARK, register(0)) })
		e.setMetaMark()
	case ruleset.SetCtMark:
		e.changeMark(s, func() { e.ct(unix.NFT_CT_MARK, register(0), -1) })
		e.open("ct", func() {
			e.Uint32(unix.NFTA_CT_SREG, register(0))
			e.Uint32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK)
		})
	case ruleset.SetMaxSeg:
		return e.maxSeg(s.Value)
	case ruleset.SetHelper:
		e.object(s.Object, unix.NFT_OBJECT_CT_HELPER)
	case ruleset.SetTimeout:
		e.object(s.Object, nftObjectCtTimeout)
	case ruleset.NoTrack:
		e.bare("notrack")
	case ruleset.SetAddress:
		return e.setAddress(s.Fields)
	case ruleset.Offload:
		e.open("flow_offload", func() { e.String(nftaFlowTableName, s.Object) })
	default:
		return fmt.Errorf("no such statement: %d", s.Kind)
	}
	return nil
}

// bare writes an expression that has no attributes.
func (e *expressionEncoder) bare(name string) {
	elem := e.Open(unix.NFTA_LIST_ELEM)
	e.String(unix.NFTA_EXPR_NAME, name)
	e.Close(elem)
}

// object refers to a named object of a type (NFT_OBJECT_*).
func (e *expressionEncoder) object(name string, typ uint32) {
	e.open("objref", func() {
		e.String(unix.NFTA_OBJREF_IMM_NAME, name)
		e.Uint32(unix.NFTA_OBJREF_IMM_TYPE, typ)
	})
}

// each keeps what limit writes for each key in the statement's set.
func (e *expressionEncoder) each(s ruleset.Statement, op uint32, limit func()) {
	e.load(s.Fields)
	e.open("dynset", func() {
		e.Uint32(unix.NFTA_DYNSET_SREG_KEY, register(0))
		e.Uint32(unix.NFTA_DYNSET_OP, op)
		e.String(unix.NFTA_DYNSET_SET_NAME, s.Set)
		n := e.Open(unix.NFTA_DYNSET_EXPR)
		limit()
		e.Close(n)
		e.Uint32(unix.NFTA_DYNSET_FLAGS, 0)
	})
}

func (e *expressionEncoder) limit(s ruleset.Statement) {
	e.String(unix.NFTA_EXPR_NAME, "limit")
	n := e.Open(unix.NFTA_EXPR_DATA)
	e.limitData(s)
	e.Close(n)
}

func (e *expressionEncoder) limitData(s ruleset.Statement) {
	flags := uint32(0)
	if s.Kind == ruleset.RateOver {
		flags = unix.NFT_LIMIT_F_INV
	}
	e.Uint64(unix.NFTA_LIMIT_RATE, s.Rate.Packets)
	e.Uint64(unix.NFTA_LIMIT_UNIT, s.Rate.Seconds)
	e.Uint32(unix.NFTA_LIMIT_BURST, s.Rate.Burst)
	e.Uint32(unix.NFTA_LIMIT_TYPE, unix.NFT_LIMIT_PKTS)
	e.Uint32(unix.NFTA_LIMIT_FLAGS, flags)
}

func (e *expressionEncoder) connlimit(count uint32) {
	e.String(unix.NFTA_EXPR_NAME, "connlimit")
	n := e.Open(unix.NFTA_EXPR_DATA)
	e.Uint32(nftaConnlimitCount, count)
	e.Uint32(nftaConnlimitFlags, connlimitOver)
	e.Close(n)
}

func (e *expressionEncoder) log(to ruleset.LogTo) {
	e.open("log", func() {
		if to.Prefix != "" {
			e.String(unix.NFTA_LOG_PREFIX, to.Prefix)
		}
		if to.HasGroup {
			e.Uint16(unix.NFTA_LOG_GROUP, to.Group)
		} else {
			e.Uint32(unix.NFTA_LOG_LEVEL, to.Level)
		}
	})
}

// markBytes is a mark as the kernel keeps it in a register.
func markBytes(mark uint32) []byte { return binary.NativeEndian.AppendUint32(nil, mark) }

// changeMark puts the new mark into the first register.
func (e *expressionEncoder) changeMark(s ruleset.Statement, load func()) {
	if s.Mask == allBits {
		e.immediate(register(0), markBytes(s.Value))
		return
	}
	load()
	e.bitwiseXor(markBytes(^s.Mask), markBytes(s.Value&s.Mask))
}

func (e *expressionEncoder) setMetaMark() {
	e.open("meta", func() {
		e.Uint32(unix.NFTA_META_KEY, unix.NFT_META_MARK)
		e.Uint32(unix.NFTA_META_SREG, register(0))
	})
}

// The option MSS of TCP: its number, and where its value is.
const (
	tcpOptionMSS   = 2
	tcpOptionValue = 2
)

// maxSeg writes the option where a packet has it; the kernel never raises it.
// Without a value it is what the route's MTU leaves.
func (e *expressionEncoder) maxSeg(size uint32) error {
	switch {
	case size > 0xffff:
		return fmt.Errorf("a maximum segment size of %d", size)
	case size > 0:
		e.immediate(register(0), binary.BigEndian.AppendUint16(nil, uint16(size)))
	default:
		e.open("rt", func() {
			e.Uint32(unix.NFTA_RT_KEY, unix.NFT_RT_TCPMSS)
			e.Uint32(unix.NFTA_RT_DREG, register(0))
		})
		e.hostToNetwork(register(0), 2)
	}
	e.open("exthdr", func() {
		e.Uint32(unix.NFTA_EXTHDR_SREG, register(0))
		e.Uint8(unix.NFTA_EXTHDR_TYPE, tcpOptionMSS)
		e.Uint32(unix.NFTA_EXTHDR_OFFSET, tcpOptionValue)
		e.Uint32(unix.NFTA_EXTHDR_LEN, 2)
		e.Uint32(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_TCPOPT)
	})
	return nil
}

func (e *expressionEncoder) bitwiseXor(mask, xor []byte) {
	e.open("bitwise", func() {
		e.Uint32(unix.NFTA_BITWISE_SREG, register(0))
		e.Uint32(unix.NFTA_BITWISE_DREG, register(0))
		e.Uint32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		e.Uint32(nftaBitwiseOp, bitwiseMask)
		e.value(unix.NFTA_BITWISE_MASK, mask)
		e.value(unix.NFTA_BITWISE_XOR, xor)
	})
}

// setAddress writes an address of the packet, and mends the checksums that it
// is part of: that of the IPv4 header, and that of the transport.
func (e *expressionEncoder) setAddress(fields []ruleset.Field) error {
	// Where the address stands in the header, and where the header's checksum.
	offset, csumType, csumOffset := uint32(0), uint32(unix.NFT_PAYLOAD_CSUM_NONE), uint32(0)
	const ipv4Checksum = 10
	switch fields[0] {
	case ruleset.IPSaddr:
		offset, csumType, csumOffset = 12, unix.NFT_PAYLOAD_CSUM_INET, ipv4Checksum
	case ruleset.IPDaddr:
		offset, csumType, csumOffset = 16, unix.NFT_PAYLOAD_CSUM_INET, ipv4Checksum
	case ruleset.IP6Saddr:
		offset = 8
	case ruleset.IP6Daddr:
		offset = 24
	default:
		return fmt.Errorf("field %d is no address of a packet", fields[0])
	}
	size := fields[0].Type().Size()
	if len(fields) > 1 {
		e.loadField(fields[1], 0, size)
	} else {
		e.immediate(register(0), make([]byte, size))
	}
	e.open("payload", func() {
		e.Uint32(unix.NFTA_PAYLOAD_SREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER)
		e.Uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.Uint32(unix.NFTA_PAYLOAD_LEN, uint32(size))
		e.Uint32(unix.NFTA_PAYLOAD_CSUM_TYPE, csumType)
		e.Uint32(unix.NFTA_PAYLOAD_CSUM_OFFSET, csumOffset)
		e.Uint32(unix.NFTA_PAYLOAD_CSUM_FLAGS, unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR)
	})
	return nil
}

// hostToNetwork turns the first length bytes of a register, in units of two.
func (e *expressionEncoder) hostToNetwork(reg, length uint32) {
	e.open("byteorder", func() {
		e.Uint32(unix.NFTA_BYTEORDER_SREG, reg)
		e.Uint32(unix.NFTA_BYTEORDER_DREG, reg)
		e.Uint32(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON)
		e.Uint32(unix.NFTA_BYTEORDER_LEN, length)
		e.Uint32(unix.NFTA_BYTEORDER_SIZE, 2)
	})
}
