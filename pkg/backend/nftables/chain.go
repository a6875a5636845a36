//go:build linux

package nftables

import (
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// acceptPolicy is NF_ACCEPT: every base chain of ours has it.
const acceptPolicy = 1

// hookAttributes encodes what there is to a chain but its name and rules as
// attributes of NFT_MSG_NEWCHAIN; "" for a chain that is not attached.
func hookAttributes(h *ruleset.Hook) string {
	if h == nil {
		return ""
	}
	return chainAttributes(uint32(h.Point), uint32(int32(h.Priority)), acceptPolicy, string(h.Type))
}

func chainAttributes(hook, priority, policy uint32, typ string) string {
	e := &nfnetlink.Encoder{}
	n := e.Open(unix.NFTA_CHAIN_HOOK)
	e.Uint32(unix.NFTA_HOOK_HOOKNUM, hook)
	e.Uint32(unix.NFTA_HOOK_PRIORITY, priority)
	e.Close(n)
	e.Uint32(unix.NFTA_CHAIN_POLICY, policy)
	e.String(unix.NFTA_CHAIN_TYPE, typ)
	return string(e.Written())
}

// parseChain reads the name and the attributes of a dumped chain.
func parseChain(p []byte) (table, name, attributes string) {
	var hook, priority, policy uint32
	var typ string
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_CHAIN_TABLE:
			table = a.String()
		case unix.NFTA_CHAIN_NAME:
			name = a.String()
		case unix.NFTA_CHAIN_TYPE:
			typ = a.String()
		case unix.NFTA_CHAIN_POLICY:
			policy = a.Uint32()
		case unix.NFTA_CHAIN_HOOK:
			for h := nfnetlink.Attributes(a.Bytes()); h.Next(); {
				switch h.Type() {
				case unix.NFTA_HOOK_HOOKNUM:
					hook = h.Uint32()
				case unix.NFTA_HOOK_PRIORITY:
					priority = h.Uint32()
				}
			}
		}
	}
	if typ == "" {
		return table, name, ""
	}
	return table, name, chainAttributes(hook, priority, policy, typ)
}
