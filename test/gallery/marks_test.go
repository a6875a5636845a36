package gallery

import (
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// apart are uplinks with other marks than those that are chosen.
var apart = replaced(replaced(uplinks, `2001:db8:113::1"]`, `2001:db8:113::1"], mark: 0x1000/0xf000`), `2001:db8:2::1"]`, `2001:db8:2::1"], mark: 0x2000/0xf000`)

var markExhibits = []exhibit{
	{
		name: "marks of a rule of nftables", options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks,
		// Its provider takes nothing from the addresses of another one.
		build: func(t *testing.T, g *gateway) {
			g.ISP.Feed(t, "table ip own {\n chain f { type filter hook forward priority 0; ip saddr 192.0.2.0/24 drop; }\n}\n", "nft", "-f", "-")
		},
		breaks: feeds("nft", "table ip shaper {\n chain pre { type filter hook prerouting priority -140; iifname \"eth1\" meta mark set meta mark & 0x0fffffff | 0x10000005\n }\n}\n", "-f", "-"),
		passes: web(lab.GatewayUplink2), first: "marks-overlap", severity: "broken", evidence: "zone wan2 has the mark", mend: writes(apart),
	},
	{
		name: "marks of a rule of iptables", options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks,
		breaks: restores("iptables-nft-restore", "*mangle\n:PRE - [0:0]\n-A PREROUTING -p tcp -j PRE\n-A PRE -m mark --mark 0 -j MARK --set-xmark 0x10000000/0xf0000000\nCOMMIT\n"),
		first:  "marks-overlap", severity: "risk", evidence: "# sets 0xf0000000", mend: writes(apart),
	},
	{
		name: "marks of flows", options: []lab.GatewayOption{lab.SecondUplink()}, policy: uplinks,
		breaks: feeds("nft", "table inet shaper {\n chain pre { type filter hook prerouting priority -140; tcp dport 22 ct mark set 0x5\n }\n}\n", "-f", "-"),
		first:  "marks-overlap", severity: "risk", evidence: "zone wan has the mark", byHand: "a rule that sets all bits leaves no others",
	},
}

func TestMarks(t *testing.T) {
	show(t, markExhibits)
	show(t, []exhibit{{
		name: "marks beside those of the uplinks", options: []lab.GatewayOption{lab.SecondUplink()}, policy: apart,
		build:  feeds("nft", "table inet shaper {\n chain pre { type filter hook prerouting priority -140; meta mark set meta mark & 0xffffff00 | 0x5\n ct mark set meta mark\n }\n}\n", "-f", "-"),
		passes: web(lab.GatewayUplink2),
	}})
}
