//go:build linux

package nfnetlink

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// Nftables is the type of one of nf_tables' messages (NFT_MSG_*).
func Nftables(msg int) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | uint16(msg) }

// FamilyName is how nft(8) calls a table's family (NFPROTO_*).
func FamilyName(family uint8) string {
	switch family {
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_ARP:
		return "arp"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return fmt.Sprint(family)
}

// Comment finds the comment in the userdata of a rule: a row of a type, a length
// and that many bytes (libnftnl, udata.h).
func Comment(userdata []byte) string {
	for p := userdata; len(p) >= 2 && len(p) >= 2+int(p[1]); p = p[2+int(p[1]):] {
		if p[0] == 0 {
			return string(bytes.TrimSuffix(p[2:2+int(p[1])], []byte{0}))
		}
	}
	return ""
}
