package nftrace

import (
	"encoding/binary"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

const chain = "trace"

// rules are the table, its chain, and the rule that marks packets for tracing.
func (t *Tracer) rules(p Packets) *nfnetlink.Batch {
	b := &nfnetlink.Batch{}
	b.Message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.NFPROTO_INET)
	b.String(unix.NFTA_TABLE_NAME, t.table)
	b.Uint32(unix.NFTA_TABLE_FLAGS, tableOwner)
	b.Message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
	b.String(unix.NFTA_CHAIN_TABLE, t.table)
	b.String(unix.NFTA_CHAIN_NAME, chain)
	b.String(unix.NFTA_CHAIN_TYPE, "filter")
	at := b.Open(unix.NFTA_CHAIN_HOOK)
	hook := uint32(unix.NF_INET_PRE_ROUTING)
	if p.Own {
		hook = unix.NF_INET_LOCAL_OUT
	}
	b.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
	priority := int32(early)
	b.Uint32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	b.Close(at)
	b.Message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFPROTO_INET)
	b.String(unix.NFTA_RULE_TABLE, t.table)
	b.String(unix.NFTA_RULE_CHAIN, chain)
	at = b.Open(unix.NFTA_RULE_EXPRESSIONS)
	e := &expressions{&b.Encoder}
	e.packets(p)
	b.Close(at)
	return b
}

// expressions writes what a rule looks at and does.
type expressions struct{ *nfnetlink.Encoder }

func (e *expressions) packets(p Packets) {
	if p.In != "" {
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, p.In)
		e.meta(unix.NFT_META_IIFNAME, name)
	}
	if p.Destination.Is4() {
		e.meta(unix.NFT_META_NFPROTO, []byte{unix.NFPROTO_IPV4})
		e.address(12, p.Source)
		e.address(16, p.Destination)
	} else {
		e.meta(unix.NFT_META_NFPROTO, []byte{unix.NFPROTO_IPV6})
		e.address(8, p.Source)
		e.address(24, p.Destination)
	}
	e.meta(unix.NFT_META_L4PROTO, []byte{p.Protocol})
	port := func(offset uint32, n uint16) {
		if n != 0 {
			e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, binary.BigEndian.AppendUint16(nil, n))
		}
	}
	port(0, p.SourcePort)
	port(2, p.DestinationPort)
	if p.ICMPType != nil {
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, []byte{*p.ICMPType})
	}
	e.limit()
	e.one("immediate", func() {
		e.Uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_1)
		at := e.Open(unix.NFTA_IMMEDIATE_DATA)
		e.Bytes(unix.NFTA_DATA_VALUE, []byte{1})
		e.Close(at)
	})
	e.one("meta", func() {
		e.Uint32(unix.NFTA_META_KEY, unix.NFT_META_NFTRACE)
		e.Uint32(unix.NFTA_META_SREG, unix.NFT_REG_1)
	})
}

// limit bounds what a fast flow costs: each packet that is traced makes the kernel
// tell of some twenty rules.
func (e *expressions) limit() {
	e.one("limit", func() {
		e.Uint64(unix.NFTA_LIMIT_RATE, 20)
		e.Uint64(unix.NFTA_LIMIT_UNIT, 1)
		e.Uint32(unix.NFTA_LIMIT_BURST, 20)
		e.Uint32(unix.NFTA_LIMIT_TYPE, unix.NFT_LIMIT_PKTS)
		e.Uint32(unix.NFTA_LIMIT_FLAGS, 0)
	})
}

func (e *expressions) one(name string, data func()) {
	at := e.Open(unix.NFTA_LIST_ELEM)
	e.String(unix.NFTA_EXPR_NAME, name)
	inside := e.Open(unix.NFTA_EXPR_DATA)
	data()
	e.Close(inside)
	e.Close(at)
}

// meta has a property of the packet be a value.
func (e *expressions) meta(key uint32, value []byte) {
	e.one("meta", func() {
		e.Uint32(unix.NFTA_META_DREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_META_KEY, key)
	})
	e.equal(value)
}

func (e *expressions) address(offset uint32, a netip.Addr) {
	if a.IsValid() {
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, a.AsSlice())
	}
}

// payload has a part of the packet be a value.
func (e *expressions) payload(base, offset uint32, value []byte) {
	e.one("payload", func() {
		e.Uint32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_PAYLOAD_BASE, base)
		e.Uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.Uint32(unix.NFTA_PAYLOAD_LEN, uint32(len(value)))
	})
	e.equal(value)
}

func (e *expressions) equal(value []byte) {
	e.one("cmp", func() {
		e.Uint32(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		e.Uint32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)
		at := e.Open(unix.NFTA_CMP_DATA)
		e.Bytes(unix.NFTA_DATA_VALUE, value)
		e.Close(at)
	})
}
