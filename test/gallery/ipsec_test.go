package gallery

import (
	"runtime"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

var ipsecExhibits = []exhibit{
	{
		name: "IPsec policy that blocks what comes from inside", policy: home, breaks: ip("xfrm policy add dir fwd src 192.168.1.0/24 dst 0.0.0.0/0 action block"),
		passes: out(), first: "ipsec-blocks", severity: "broken", evidence: "dir fwd src 192.168.1.0/24 dst 0.0.0.0/0 priority 0 action block",
	},
	{
		name: "IPsec policy of IPv6 that blocks what leaves", policy: home, breaks: ip("xfrm policy add dir out src fd00:1::/64 dst ::/0 action block"),
		passes: outv6(), first: "ipsec-blocks", severity: "broken", evidence: "dir out src fd00:1::/64 dst ::/0",
	},
	{
		name: "IPsec policy that blocks answers", policy: home, breaks: ip("xfrm policy add dir out src 192.168.1.10/32 dst 0.0.0.0/0 action block"),
		passes: web(lab.GatewayUplink), first: "ipsec-blocks", severity: "broken", evidence: "dir out src 192.168.1.10/32",
	},
	{
		name: "IPsec wanted of what comes in the clear", policy: home, breaks: ip("xfrm policy add dir fwd src 0.0.0.0/0 dst 203.0.113.2/32 proto tcp tmpl proto esp mode transport"),
		passes: web(lab.GatewayUplink), first: "ipsec-blocks", severity: "broken", evidence: "with a template that is not optional",
	},
}

func TestIPsec(t *testing.T) {
	if runtime.GOARCH == "386" {
		lab.Lacking(t, "a 64-bit kernel that speaks with 32-bit programs of IPsec")
	}
	show(t, ipsecExhibits)
	show(t, []exhibit{{
		name: "IPsec to another place", policy: home, passes: out(),
		build: ip(
			"xfrm policy add dir out src 192.168.1.0/24 dst 10.99.0.0/16 tmpl src 203.0.113.2 dst 198.51.100.9 proto esp mode tunnel",
			"xfrm policy add dir fwd src 10.99.0.0/16 dst 192.168.1.0/24 tmpl src 198.51.100.9 dst 203.0.113.2 proto esp mode tunnel",
			"xfrm policy add dir in src 10.99.0.0/16 dst 192.168.1.0/24 tmpl src 198.51.100.9 dst 203.0.113.2 proto esp mode tunnel",
			"xfrm policy add dir fwd src 192.168.1.66/32 dst 0.0.0.0/0 action block",
		),
	}})
}
