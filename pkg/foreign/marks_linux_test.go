package foreign

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// What a rule sets of a mark is told bit by bit, whoever wrote it; what is copied
// from mark to mark is not set by it.
func TestMarks(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.Binary("nft"), lab.Binary("iptables-nft"), lab.Binary("iptables-legacy"))
	const want = "100/0 ffff/0 f0/0 0/0 0/0 0/ffffffff 0/ff 0/0"
	const xt = `*mangle
-A PREROUTING -j MARK --set-xmark 0x100/0x100
-A PREROUTING -j MARK --set-xmark 0x1/0xffff
-A PREROUTING -j MARK --or-mark 0xf0
-A PREROUTING -m mark --mark 0x1 -j ACCEPT
-A PREROUTING -j CONNMARK --restore-mark
-A PREROUTING -j CONNMARK --set-mark 0x7
-A PREROUTING -j CONNMARK --set-xmark 0x10/0xff
-A PREROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff
COMMIT
`
	const nft = `table inet t { chain PREROUTING { type filter hook prerouting priority -150;
	meta mark set meta mark & 0xfffffeff | 0x100
	meta mark set meta mark & 0xffff0000 | 0x1
	meta mark set meta mark | 0xf0
	meta mark 0x1 accept
	meta mark set ct mark
	ct mark set 0x7
	ct mark set ct mark & 0xffffff00 | 0x10
	ct mark set meta mark
	}
}
`
	for _, c := range []struct{ name, text string }{{"nft", nft}, {"iptables-nft-restore", xt}, {"iptables-legacy-restore", xt}} {
		h := lab.New(t).Host("host")
		if c.name == "nft" {
			h.Feed(t, c.text, "nft", "-f", "-")
		} else {
			h.Feed(t, c.text, c.name)
		}
		var got []string
		for _, table := range readOf(t, h).Tables {
			if chain := table.Chain("PREROUTING"); chain != nil {
				for _, r := range chain.Rules {
					got = append(got, fmt.Sprintf("%x/%x", r.Marks, r.FlowMarks))
				}
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", c.name, strings.Join(got, " "), want)
		}
	}
}
