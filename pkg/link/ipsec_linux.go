package link

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// IPsecPolicies lists the policies of the calling thread's network namespace, in
// the order in which the kernel asks them. A kernel that has nobody to answer for
// IPsec has none, and is not asked: it would load a module.
func IPsecPolicies() ([]IPsecPolicy, error) {
	if there, err := answers(unix.NETLINK_XFRM); err != nil || !there {
		return nil, err
	}
	request := nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	messages, err := dump(func() ([][]byte, error) { return request.Execute(unix.NETLINK_XFRM, nl.XFRM_MSG_NEWPOLICY) })
	if err != nil {
		return nil, fmt.Errorf("list IPsec policies: %w", err)
	}
	var out []IPsecPolicy
	for _, m := range messages {
		if x, ok := toIPsecPolicy(m); ok {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b IPsecPolicy) int { return cmp.Compare(a.Priority, b.Priority) })
	return out, nil
}

// answers says whether the kernel has somebody for a protocol of netlink.
func answers(protocol int) (bool, error) {
	f, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil {
		return false, fmt.Errorf("list netlink sockets: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if words := strings.Fields(s.Text()); len(words) > 2 && words[1] == strconv.Itoa(protocol) && words[2] == "0" {
			return true, nil
		}
	}
	return false, nil
}

// toIPsecPolicy decodes one itself: to the library, fd00:1:: is an IPv4 address.
func toIPsecPolicy(m []byte) (IPsecPolicy, bool) {
	if len(m) < nl.SizeofXfrmUserpolicyInfo {
		return IPsecPolicy{}, false
	}
	p := nl.DeserializeXfrmUserpolicyInfo(m)
	direction := map[uint8]string{0: "in", 1: "out", 2: "fwd"}[p.Dir]
	attributes, err := nl.ParseRouteAttr(m[nl.SizeofXfrmUserpolicyInfo:])
	if err != nil || direction == "" {
		return IPsecPolicy{}, false // of a socket
	}
	prefix := func(a nl.XfrmAddress, bits uint8) netip.Prefix {
		if p.Sel.Family == unix.AF_INET6 {
			return netip.PrefixFrom(netip.AddrFrom16(a), int(bits))
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a[:4])), int(bits))
	}
	x := IPsecPolicy{
		Family: IPv4, Direction: direction, From: prefix(p.Sel.Saddr, p.Sel.PrefixlenS), To: prefix(p.Sel.Daddr, p.Sel.PrefixlenD),
		Protocol: p.Sel.Proto, FromPort: nl.Swap16(p.Sel.Sport), ToPort: nl.Swap16(p.Sel.Dport), Priority: int(p.Priority),
		Blocks: p.Action != 0, Conditional: p.Sel.Ifindex != 0,
	}
	if p.Sel.Family == unix.AF_INET6 {
		x.Family = IPv6
	}
	for _, a := range attributes {
		switch a.Attr.Type {
		case nl.XFRMA_TMPL:
			for list := a.Value; len(list) >= nl.SizeofXfrmUserTmpl; list = list[nl.SizeofXfrmUserTmpl:] {
				x.Requires = x.Requires || nl.DeserializeXfrmUserTmpl(list).Optional == 0
			}
		case nl.XFRMA_MARK, nl.XFRMA_IF_ID:
			x.Conditional = true
		}
	}
	if x.Protocol != 0 {
		x.service = fmt.Sprintf("proto %d", x.Protocol)
	}
	if x.FromPort != 0 {
		x.service += fmt.Sprintf(" sport %d", x.FromPort)
	}
	if x.ToPort != 0 {
		x.service += fmt.Sprintf(" dport %d", x.ToPort)
	}
	return x, x.From.IsValid() && x.To.IsValid()
}
