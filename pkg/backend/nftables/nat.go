//go:build linux

package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// Flags of a translation (uapi/linux/netfilter/nf_nat.h).
const (
	rangeMapIPs         = 1 << 0
	rangeProtoSpecified = 1 << 1
	rangeProtoRandom    = 1 << 2
	rangePersistent     = 1 << 3
	rangeProtoFully     = 1 << 4
	rangeNetmap         = 1 << 6
)

// natFlags gives the flags that are not told by which registers are used.
func natFlags(n ruleset.NAT) uint32 {
	flags := uint32(0)
	for _, f := range []struct {
		set bool
		bit uint32
	}{
		{n.Random, rangeProtoRandom}, {n.FullyRandom, rangeProtoFully}, {n.Persistent, rangePersistent}, {n.Prefix, rangeNetmap},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

// span names the registers of a range: of addresses and, where portMin is not
// 0, of ports.
type span struct{ addrMin, addrMax, portMin, portMax uint32 }

// translation writes an SNAT or a DNAT.
func (e *expressionEncoder) translation(kind uint32, a ruleset.Action, sets map[string]*ruleset.Set) error {
	if a.Map == "" {
		e.nat(kind, a, e.constants(a.NAT))
		return nil
	}
	m := sets[a.Map]
	switch {
	case m == nil:
		return fmt.Errorf("no map %q", a.Map)
	case a.NAT.PortMin != 0 && (len(m.Data) > 1 || m.DataInterval):
		return errors.New("ports beside a map that is not of single addresses")
	case m.DataInterval && a.Pick.Of != 0:
		// It loads one, but lists its key as "type 0", which it cannot load.
		return errors.New("nft(8) 1.0.6 cannot list a map of ranges by number")
	case m.DataInterval && len(m.Data) > 1 && m.Data[0] == ruleset.IPv6Addr:
		// It looks for the high address where the low one would end if ports
		// took four words, and the kernel refuses to read there.
		return errors.New("nft(8) 1.0.6 cannot translate to ranges of IPv6 addresses and ports by a map")
	}
	e.key(a)
	e.lookup(a.Map, true, unix.NFT_REG_1, 0)
	words := m.Data[0].Padded() / 4
	s := span{addrMin: register(0), addrMax: register(0)}
	if len(m.Data) > 1 {
		s.portMin, s.portMax = register(words), register(words)
	}
	if m.DataInterval {
		half := m.DataLen() / 8
		s.addrMax = register(half)
		if s.portMin != 0 {
			s.portMax = register(half + words)
		}
	}
	if a.NAT.PortMin != 0 {
		word := 0
		s.portMin, s.portMax = ports(a.NAT, func(v []byte) uint32 {
			word += 4 // behind the address
			e.immediate(register(word), v)
			return register(word)
		})
	}
	e.nat(kind, a, s)
	return nil
}

// key loads what an action looks up in its map.
func (e *expressionEncoder) key(a ruleset.Action) {
	switch {
	case a.Pick.Of == 0:
		e.loadKey(a.Fields, e.sets[a.Map])
	case len(a.Pick.Fields) == 0:
		e.open("numgen", func() {
			e.Uint32(unix.NFTA_NG_DREG, unix.NFT_REG_1)
			e.Uint32(unix.NFTA_NG_MODULUS, a.Pick.Of)
			e.Uint32(unix.NFTA_NG_TYPE, unix.NFT_NG_INCREMENTAL)
			e.Uint32(unix.NFTA_NG_OFFSET, 0)
		})
	default:
		// As nft(8) does: the fields stand behind the register of the result.
		const first = 4
		word := first
		for _, f := range a.Pick.Fields {
			e.loadField(f, word, f.Type().Size())
			word += f.Type().Padded() / 4
		}
		e.open("hash", func() {
			e.Uint32(unix.NFTA_HASH_SREG, register(first))
			e.Uint32(unix.NFTA_HASH_DREG, unix.NFT_REG_1)
			e.Uint32(unix.NFTA_HASH_LEN, uint32(word-first)*4)
			e.Uint32(unix.NFTA_HASH_MODULUS, a.Pick.Of)
			e.Uint32(unix.NFTA_HASH_SEED, pickSeed)
			e.Uint32(unix.NFTA_HASH_TYPE, unix.NFT_HASH_JENKINS)
		})
	}
}

// constants loads addresses and ports, each into a register of 128 bits.
func (e *expressionEncoder) constants(n ruleset.NAT) span {
	var s span
	word := 0
	put := func(v []byte) uint32 {
		reg := register(word)
		word += 4
		e.immediate(reg, v)
		return reg
	}
	s.addrMin = put(n.Low.AsSlice())
	s.addrMax = s.addrMin
	if n.Low != n.High || n.Prefix {
		s.addrMax = put(n.High.AsSlice())
	}
	s.portMin, s.portMax = ports(n, put)
	return s
}

// ports loads the ports of a translation, if it has any.
func ports(n ruleset.NAT, put func(v []byte) uint32) (low, high uint32) {
	if n.PortMin == 0 {
		return 0, 0
	}
	low = put(binary.BigEndian.AppendUint16(nil, n.PortMin))
	if n.PortMin == n.PortMax {
		return low, low
	}
	return low, put(binary.BigEndian.AppendUint16(nil, n.PortMax))
}

func (e *expressionEncoder) immediate(reg uint32, v []byte) {
	e.open("immediate", func() {
		e.Uint32(unix.NFTA_IMMEDIATE_DREG, reg)
		e.value(unix.NFTA_IMMEDIATE_DATA, v)
	})
}

// nat writes a translation to what is in the registers.
func (e *expressionEncoder) nat(kind uint32, a ruleset.Action, s span) {
	e.open("nat", func() {
		e.Uint32(unix.NFTA_NAT_TYPE, kind)
		e.Uint32(unix.NFTA_NAT_FAMILY, uint32(a.Family))
		e.Uint32(unix.NFTA_NAT_REG_ADDR_MIN, s.addrMin)
		e.Uint32(unix.NFTA_NAT_REG_ADDR_MAX, s.addrMax)
		flags := natFlags(a.NAT) | rangeMapIPs
		if s.portMin != 0 {
			e.Uint32(unix.NFTA_NAT_REG_PROTO_MIN, s.portMin)
			e.Uint32(unix.NFTA_NAT_REG_PROTO_MAX, s.portMax)
			flags |= rangeProtoSpecified
		}
		e.Uint32(unix.NFTA_NAT_FLAGS, flags)
	})
}

// toPorts loads the ports of a masquerade or a redirect, and gives the flags.
func (e *expressionEncoder) toPorts(n ruleset.NAT) (low, high, flags uint32) {
	word := 0
	low, high = ports(n, func(v []byte) uint32 {
		reg := register(word)
		word += 4
		e.immediate(reg, v)
		return reg
	})
	flags = natFlags(n)
	if low != 0 {
		flags |= rangeProtoSpecified
	}
	return low, high, flags
}

func (e *expressionEncoder) masquerade(n ruleset.NAT) {
	low, high, flags := e.toPorts(n)
	e.open("masq", func() {
		if flags != 0 {
			e.Uint32(unix.NFTA_MASQ_FLAGS, flags)
		}
		if low != 0 {
			e.Uint32(unix.NFTA_MASQ_REG_PROTO_MIN, low)
			e.Uint32(unix.NFTA_MASQ_REG_PROTO_MAX, high)
		}
	})
}

func (e *expressionEncoder) redirect(n ruleset.NAT) {
	low, high, flags := e.toPorts(n)
	e.open("redir", func() {
		if low != 0 {
			e.Uint32(unix.NFTA_REDIR_REG_PROTO_MIN, low)
			e.Uint32(unix.NFTA_REDIR_REG_PROTO_MAX, high)
		}
		if flags != 0 {
			e.Uint32(unix.NFTA_REDIR_FLAGS, flags)
		}
	})
}

// Options of a synproxy (uapi/linux/netfilter/nf_synproxy.h).
const (
	synproxyMSS       = 1 << 0
	synproxyWScale    = 1 << 1
	synproxySACK      = 1 << 2
	synproxyTimestamp = 1 << 3
)

// synproxy always says the segment size and the window scale: nft(8) 1.0.6
// lists one that is left out as 0, which is not the same.
func (e *expressionEncoder) synproxy(s ruleset.Syn) {
	flags := uint32(synproxyMSS | synproxyWScale)
	if s.SACK {
		flags |= synproxySACK
	}
	if s.Timestamp {
		flags |= synproxyTimestamp
	}
	e.open("synproxy", func() {
		e.Uint16(nftaSynproxyMSS, s.MSS)
		e.Uint8(nftaSynproxyWScale, s.WindowScale)
		e.Uint32(nftaSynproxyFlags, flags)
	})
}
