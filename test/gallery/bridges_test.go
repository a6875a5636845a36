package gallery

import "testing"

var bridgeExhibits = []exhibit{
	{
		name: "chain of a bridge that drops what comes in", options: bridgedLAN(), policy: bridged,
		breaks: nft("table bridge guard {\n chain in { type filter hook input priority 0; ether type ip ip saddr 192.168.1.0/24 drop; }\n}\n"),
		passes: out(), first: "bridge-drop", severity: "broken", evidence: "saddr 192.168.1.0/24",
	},
	{
		name: "chain of a bridge that lets nothing of IPv6 out", options: bridgedLAN(), policy: bridged,
		breaks: nft("table bridge guard {\n chain out { type filter hook output priority 0; ether type ip6 ip6 nexthdr { tcp, icmpv6 } drop; }\n}\n"),
		passes: outv6(), first: "bridge-drop", severity: "broken", evidence: "bridge guard out",
	},
	{
		name: "chain of a bridge with a policy", options: bridgedLAN(), policy: bridged,
		breaks: nft("table bridge guard {\n chain out { type filter hook postrouting priority 0; policy drop; ether type arp accept; }\n}\n"),
		passes: out(), first: "bridge-drop", severity: "broken", evidence: "bridge guard out",
	},
}

func TestBridges(t *testing.T) {
	show(t, bridgeExhibits)
	show(t, []exhibit{{
		name: "chain of a bridge for what stays on it", options: bridgedLAN(), policy: bridged, passes: out(),
		build: all(sysctls("net.bridge.bridge-nf-call-iptables", "0", "net.bridge.bridge-nf-call-ip6tables", "0"), nft("table bridge guard {\n chain f { type filter hook forward priority 0; policy drop; }\n chain in { type filter hook input priority 0; udp dport 67 drop; }\n}\n")),
	}})
}
