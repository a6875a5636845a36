//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// verdictCode gives the code of a verdict (enum nft_verdicts, NF_ACCEPT,
// NF_DROP).
func verdictCode(kind ruleset.ActionKind) uint32 {
	code := int32(0) // drop
	switch kind {
	case ruleset.Accept:
		code = 1
	case ruleset.Jump:
		code = unix.NFT_JUMP
	case ruleset.Goto:
		code = unix.NFT_GOTO
	case ruleset.Return:
		code = unix.NFT_RETURN
	}
	return uint32(code)
}

// Flags of a port range (uapi/linux/netfilter/nf_nat.h).
const (
	rangeMapIPs         = 1 << 0
	rangeProtoSpecified = 1 << 1
	rangeProtoRandom    = 1 << 2
	rangeProtoFully     = 1 << 4
)

func (e *expressionEncoder) action(a ruleset.Action, sets map[string]*ruleset.Set) error {
	switch a.Kind {
	case ruleset.Continue:
	case ruleset.Accept, ruleset.Drop, ruleset.Jump, ruleset.Goto, ruleset.Return:
		e.open("immediate", func() {
			e.Uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
			n := e.Open(unix.NFTA_IMMEDIATE_DATA)
			e.verdict(a)
			e.Close(n)
		})
	case ruleset.VerdictMap:
		e.load(a.Fields)
		e.lookup(a.Map, true, unix.NFT_REG_VERDICT, 0)
	case ruleset.Reject:
		return e.reject(a.With)
	case ruleset.DNAT:
		m := sets[a.Map]
		if m == nil {
			return fmt.Errorf("no map %q", a.Map)
		}
		e.load(a.Fields)
		e.lookup(a.Map, true, unix.NFT_REG_1, 0)
		port := -1
		if len(m.Data) == 2 {
			port = m.Data[0].Padded() / 4
		}
		e.nat(unix.NFT_NAT_DNAT, a.Family, port)
	case ruleset.SNATToDest:
		key := uint32(unix.NFT_CT_DST_IP)
		if a.Family == ruleset.IPv6 {
			key = unix.NFT_CT_DST_IP6
		}
		e.ct(key, register(0), 0)
		e.nat(unix.NFT_NAT_SNAT, a.Family, -1)
	case ruleset.Masquerade:
		e.masquerade(a)
	default:
		return fmt.Errorf("no such action: %d", a.Kind)
	}
	return nil
}

// verdict writes a nested NFTA_DATA_VERDICT.
func (e *expressionEncoder) verdict(a ruleset.Action) {
	n := e.Open(unix.NFTA_DATA_VERDICT)
	e.Uint32(unix.NFTA_VERDICT_CODE, verdictCode(a.Kind))
	if a.Chain != "" {
		e.String(unix.NFTA_VERDICT_CHAIN, a.Chain)
	}
	e.Close(n)
}

func (e *expressionEncoder) reject(with string) error {
	kind, code := uint32(unix.NFT_REJECT_ICMPX_UNREACH), uint8(0)
	switch with {
	case "tcp reset":
		kind = unix.NFT_REJECT_TCP_RST
	case "port-unreachable":
		code = unix.NFT_REJECT_ICMPX_PORT_UNREACH
	case "admin-prohibited":
		code = unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED
	default:
		return fmt.Errorf("no such kind of reject: %q", with)
	}
	e.open("reject", func() {
		e.Uint32(unix.NFTA_REJECT_TYPE, kind)
		if kind != unix.NFT_REJECT_TCP_RST {
			e.Uint8(unix.NFTA_REJECT_ICMP_CODE, code)
		}
	})
	return nil
}

// nat writes a translation to the address in the first register, and to the
// port in the register at the word portWord, if that is not negative.
func (e *expressionEncoder) nat(kind uint32, family ruleset.Family, portWord int) {
	e.open("nat", func() {
		e.Uint32(unix.NFTA_NAT_TYPE, kind)
		e.Uint32(unix.NFTA_NAT_FAMILY, uint32(family))
		e.Uint32(unix.NFTA_NAT_REG_ADDR_MIN, register(0))
		e.Uint32(unix.NFTA_NAT_REG_ADDR_MAX, register(0))
		flags := uint32(rangeMapIPs)
		if portWord >= 0 {
			e.Uint32(unix.NFTA_NAT_REG_PROTO_MIN, register(portWord))
			e.Uint32(unix.NFTA_NAT_REG_PROTO_MAX, register(portWord))
			flags |= rangeProtoSpecified
		}
		e.Uint32(unix.NFTA_NAT_FLAGS, flags)
	})
}

func (e *expressionEncoder) masquerade(a ruleset.Action) {
	flags := uint32(0)
	if a.PortMin != 0 {
		flags |= rangeProtoSpecified
		e.port(register(0), a.PortMin)
		e.port(register(4), a.PortMax)
	}
	if a.Random {
		flags |= rangeProtoRandom
	}
	if a.FullyRandom {
		flags |= rangeProtoFully
	}
	e.open("masq", func() {
		if flags != 0 {
			e.Uint32(unix.NFTA_MASQ_FLAGS, flags)
		}
		if a.PortMin != 0 {
			e.Uint32(unix.NFTA_MASQ_REG_PROTO_MIN, register(0))
			e.Uint32(unix.NFTA_MASQ_REG_PROTO_MAX, register(4))
		}
	})
}

// port loads a constant port.
func (e *expressionEncoder) port(reg uint32, port uint16) {
	e.open("immediate", func() {
		e.Uint32(unix.NFTA_IMMEDIATE_DREG, reg)
		e.value(unix.NFTA_IMMEDIATE_DATA, binary.BigEndian.AppendUint16(nil, port))
	})
}
