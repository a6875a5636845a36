//go:build linux

package nftables

import (
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
		e.key(a)
		e.lookup(a.Map, true, unix.NFT_REG_VERDICT, 0)
	case ruleset.Reject:
		return e.reject(a.With)
	case ruleset.DNAT:
		return e.translation(unix.NFT_NAT_DNAT, a, sets)
	case ruleset.SNAT:
		return e.translation(unix.NFT_NAT_SNAT, a, sets)
	case ruleset.SNATToDest:
		key := uint32(unix.NFT_CT_DST_IP)
		if a.Family == ruleset.IPv6 {
			key = unix.NFT_CT_DST_IP6
		}
		e.ct(key, register(0), 0)
		e.nat(unix.NFT_NAT_SNAT, a, span{addrMin: register(0), addrMax: register(0)})
	case ruleset.Masquerade:
		e.masquerade(a.NAT)
	case ruleset.Redirect:
		e.redirect(a.NAT)
	case ruleset.Synproxy:
		e.synproxy(a.Syn)
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
