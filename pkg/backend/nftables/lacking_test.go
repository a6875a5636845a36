//go:build linux

package nftables

import (
	"errors"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// The kernel says that there is no such thing, and where in the message. What
// is missing may also be what an expression refers to: then nothing is added.
func TestLacking(t *testing.T) {
	t.Parallel()
	message := func(typ int, fill func(*nfnetlink.Batch)) []byte {
		var b nfnetlink.Batch
		b.Message(typ, 0, unix.NFPROTO_INET)
		fill(&b)
		return b.MessageBytes(0)
	}
	chain := func(typ string) []byte {
		return message(unix.NFT_MSG_NEWCHAIN, func(b *nfnetlink.Batch) {
			b.String(unix.NFTA_CHAIN_TABLE, Table)
			b.String(unix.NFTA_CHAIN_TYPE, typ)
		})
	}
	offset := 0
	rule := func(expression string) []byte {
		return message(unix.NFT_MSG_NEWRULE, func(b *nfnetlink.Batch) {
			list := b.Open(unix.NFTA_RULE_EXPRESSIONS)
			offset = unix.NLMSG_HDRLEN + 4 + unix.NLA_HDRLEN
			elem := b.Open(unix.NFTA_LIST_ELEM)
			b.String(unix.NFTA_EXPR_NAME, expression)
			b.Close(elem)
			b.Close(list)
		})
	}
	for _, c := range []struct {
		message []byte
		errno   unix.Errno
		want    string
	}{
		{chain("nat"), unix.ENOENT, "nft_chain_nat (CONFIG_NFT_NAT)"},
		{chain("filter"), unix.ENOENT, ""},
		{chain("nat"), unix.EBUSY, ""},
		{rule("masq"), unix.ENOENT, "nft_masq (CONFIG_NFT_MASQ)"},
		{rule("fib"), unix.ENOENT, "nft_fib_inet (CONFIG_NFT_FIB_INET)"},
		{rule("notrack"), unix.ENOENT, "nft_ct (CONFIG_NFT_CT)"},
		{rule("lookup"), unix.ENOENT, ""},
		{rule("masq"), unix.EINVAL, ""},
		{nil, unix.ENOENT, ""},
	} {
		err := (&subject{}).lacking(c.message, &nfnetlink.Error{Errno: c.errno, Offset: offset})
		if !errors.Is(err, c.errno) || errors.Is(err, backend.ErrNotSupported) != (c.want != "") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.message, err, c.want)
		}
	}
	if err := (&subject{}).lacking(rule("masq")[:20], &nfnetlink.Error{Errno: unix.ENOENT, Offset: 1 << 20}); errors.Is(err, backend.ErrNotSupported) {
		t.Errorf("an offset behind the end: %v", err)
	}
}

// Where a card takes no flows, the kernel says so of the whole flowtable.
func TestLackingCards(t *testing.T) {
	t.Parallel()
	attributes := flowtableAttributes(0, flowtableHardware, []string{"eth0", "eth1"})
	s := &subject{cards: cards([]byte(attributes))}
	err := s.lacking(nil, &nfnetlink.Error{Errno: unix.EOPNOTSUPP})
	if !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), "not each of eth0, eth1 does") {
		t.Error(err)
	}
	if got := cards([]byte(flowtableAttributes(0, 0, []string{"eth0"}))); got != nil {
		t.Errorf("without `hardware` %v are asked", got)
	}
}
