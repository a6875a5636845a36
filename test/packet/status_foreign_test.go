package packet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// status shows the chains of others that can override ours, and no other.
func TestStatusForeignChains(t *testing.T) {
	lab.Require(t, lab.Binary("iptables-legacy-restore"), lab.Binary("iptables-nft-restore"))
	g := applied(t, lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest()), lanToWAN)
	chains := func() (names []string) {
		t.Helper()
		var s struct {
			Foreign []struct {
				Kind, Family, Table, Chain, Hook, Policy string
				Packets                                  *uint64 `json:"policy_packets"`
				Stops, Translates                        bool
			} `json:"foreign_chains"`
		}
		if err := json.Unmarshal([]byte(g.ipmasq(t, 0, "status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Foreign {
			does := c.Policy
			if c.Stops {
				does += " stops"
			}
			if c.Translates {
				does += " translates"
			}
			names = append(names, strings.Join([]string{c.Kind, c.Family, c.Table, c.Chain, c.Hook, does}, " "))
			if (c.Packets != nil) != (c.Kind == "iptables-legacy" && c.Policy == "drop") {
				t.Errorf("%+v: packets of the policy", c)
			}
		}
		return names
	}
	if got := chains(); len(got) > 0 {
		t.Errorf("on a host of its own: %q", got)
	}
	g.GW.Feed(t, dockers, "nft", "-f", "-")
	g.GW.Feed(t, "*filter\n:FORWARD DROP\n-A FORWARD -i eth7 -j ACCEPT\nCOMMIT\n", "iptables-legacy-restore", "--noflush")
	g.GW.Feed(t, "*mangle\n-A FORWARD -i eth7 -j ACCEPT\nCOMMIT\n*filter\n:X -\n-A INPUT -i eth8 -j X\n-A X -j REJECT\nCOMMIT\n", "iptables-nft-restore", "--noflush")
	want := []string{
		"nft ip docker-bridges nat-PREROUTING prerouting accept translates",
		"nft ip docker-bridges raw-PREROUTING prerouting accept stops",
		"iptables-nft ip filter INPUT input accept stops",
		"nft ip docker-bridges filter-FORWARD forward accept stops",
		"iptables-legacy ip filter FORWARD forward drop stops",
		"nft ip docker-bridges nat-POSTROUTING postrouting accept translates",
	}
	if got := chains(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("status says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if text := g.ipmasq(t, 0, "status"); !strings.Contains(text, "others      ip filter FORWARD of iptables-legacy, at forward 0: policy drop, 0 packets\n") {
		t.Errorf("status says\n%s", text)
	}
}
