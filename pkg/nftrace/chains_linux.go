package nftrace

import (
	"errors"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

const readAttempts = 20

// Read reads the chains and rules of all tables of the calling thread's network
// namespace. It needs CAP_NET_ADMIN there.
func Read() (*Chains, error) {
	c, err := nfnetlink.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for range readAttempts {
		out := &Chains{chains: map[chainName]Hook{}, rules: map[ruleName]RuleAt{}, comments: map[chainName][]string{}}
		err = out.read(c)
		if !errors.Is(err, nfnetlink.ErrInterrupted) {
			return out, err
		}
	}
	return nil, fmt.Errorf("read the chains of all tables: %w", err)
}

func (c *Chains) read(conn *nfnetlink.Conn) error {
	err := conn.Dump(nfnetlink.Nftables(unix.NFT_MSG_GETCHAIN), unix.NFPROTO_UNSPEC, nil, func(m nfnetlink.Message) error {
		name, hook, base := chainName{family: nfnetlink.FamilyName(m.Family())}, Hook{}, false
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_CHAIN_TABLE:
				name.table = a.String()
			case unix.NFTA_CHAIN_NAME:
				name.chain = a.String()
			case unix.NFTA_CHAIN_TYPE:
				hook.Type = a.String()
			case unix.NFTA_CHAIN_HOOK:
				base = true
				for h := nfnetlink.Attributes(a.Bytes()); h.Next(); {
					switch h.Type() {
					case unix.NFTA_HOOK_HOOKNUM:
						hook.Name = hookName(name.family, h.Uint32())
					case unix.NFTA_HOOK_PRIORITY:
						hook.Priority = int(int32(h.Uint32()))
					}
				}
			}
		}
		if base {
			c.chains[name] = hook
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the chains of all tables: %w", err)
	}
	err = conn.Dump(nfnetlink.Nftables(unix.NFT_MSG_GETRULE), unix.NFPROTO_UNSPEC, nil, func(m nfnetlink.Message) error {
		name, at := ruleName{chainName: chainName{family: nfnetlink.FamilyName(m.Family())}}, RuleAt{}
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_RULE_TABLE:
				name.table = a.String()
			case unix.NFTA_RULE_CHAIN:
				name.chain = a.String()
			case unix.NFTA_RULE_HANDLE:
				name.handle = a.Uint64()
			case unix.NFTA_RULE_USERDATA:
				at.Comment = nfnetlink.Comment(a.Bytes())
			}
		}
		at.Index = len(c.comments[name.chainName])
		c.comments[name.chainName] = append(c.comments[name.chainName], at.Comment)
		c.rules[name] = at
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the rules of all tables: %w", err)
	}
	return nil
}

func hookName(family string, number uint32) string {
	names := []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}
	if family == "netdev" {
		names = []string{"ingress", "egress"}
	}
	if int(number) < len(names) {
		return names[number]
	}
	return fmt.Sprint(number)
}
