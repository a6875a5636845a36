package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// dockers is what Docker's nftables backend leaves on a host, in short.
const dockers = `
table ip docker-bridges {
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-in__docker0 }
	}
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		iifname vmap @filter-forward-in-jumps
	}
	chain filter-forward-in__docker0 {
		ct state established,related accept
		iifname "docker0" oifname "docker0" accept comment "ICC"
		ip daddr 172.17.0.2 tcp dport 80 accept
		drop comment "UNPUBLISHED PORT DROP"
	}
	chain nat-PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local tcp dport 8888 dnat to 172.17.0.2:80
	}
	chain nat-POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "docker0" ip saddr 172.17.0.0/16 masquerade
	}
	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 172.17.0.2 iifname != "docker0" drop
	}
}
`

// libvirts is what libvirt's nftables backend leaves on a host, in short.
const libvirts = `
table ip libvirt_network {
	chain forward {
		type filter hook forward priority filter; policy accept;
		counter packets 0 bytes 0 jump guest_cross
		counter packets 0 bytes 0 jump guest_input
		counter packets 0 bytes 0 jump guest_output
	}
	chain guest_output {
		ip saddr 192.168.122.0/24 iifname "virbr0" counter packets 0 bytes 0 accept
		iifname "virbr0" counter packets 0 bytes 0 reject
	}
	chain guest_input {
		oifname "virbr0" ip daddr 192.168.122.0/24 ct state established,related counter packets 0 bytes 0 accept
		oifname "virbr0" counter packets 0 bytes 0 reject
	}
	chain guest_cross {
		iifname "virbr0" oifname "virbr0" counter packets 0 bytes 0 accept
	}
	chain guest_nat {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter packets 0 bytes 0 masquerade
	}
}
table ip6 libvirt_network {
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "virbr0" counter packets 0 bytes 0 reject
	}
}
table inet owned {
	set banned {
		type ipv4_addr
		flags interval
		elements = { 10.66.0.0/16 }
	}
	chain input {
		type filter hook input priority -10; policy accept;
		ip saddr @banned drop
	}
}
`

// iptables is what an older firewall leaves on a host.
const iptablesRules = `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:OLD - [0:0]
-A PREROUTING -p tcp -m tcp --dport 8889 -j DNAT --to-destination 10.99.0.10:80
-A POSTROUTING -s 10.99.0.0/24 -o eth0 -j OLD
-A OLD -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:OLD - [0:0]
-A FORWARD -i eth9 -j OLD
-A OLD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OLD -m comment --comment "guests, and all that" -j ACCEPT
COMMIT
`

// others is everything that nftables holds and that is not ipmasq's.
func (g *gateway) others(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	ours := false
	for line := range strings.Lines(g.ruleset(t)) {
		if strings.Contains(line, "IPMASQ-") {
			continue
		}
		if strings.HasPrefix(line, "table ") {
			ours = line == "table inet ipmasq {\n"
		}
		if !ours {
			out.WriteString(line)
		}
	}
	return out.String()
}

// Only our own table is ever touched, and what others translate goes on.
func TestForeignTables(t *testing.T) {
	for _, c := range []struct {
		name, nft string
		iptables  bool
	}{{"docker", dockers, false}, {"libvirt", libvirts, false}, {"iptables", "", true}, {"all", dockers + libvirts, true}} {
		t.Run(c.name, func(t *testing.T) {
			if c.iptables {
				lab.Require(t, lab.Binary("iptables-nft-restore"), lab.Binary("iptables-nft-save"))
			}
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutDMZ())
			answering(topo.Server, topo.Guest)
			if c.nft != "" {
				topo.GW.Feed(t, c.nft, "nft", "-f", "-")
			}
			save := func() string { return "" }
			if c.iptables {
				topo.GW.Feed(t, iptablesRules, "iptables-nft-restore")
				save = func() string {
					var rules strings.Builder
					for line := range strings.Lines(topo.GW.Run(t, "iptables-nft-save")) {
						// The time; and a table that was looked at is there, but has
						// nothing.
						if !strings.HasPrefix(line, "#") && !strings.Contains(line, "IPMASQ-") && (chosen(t) == "" || strings.HasPrefix(line, "-A")) {
							rules.WriteString(strings.SplitN(line, " [", 2)[0]) // counters
						}
					}
					return rules.String()
				}
			}
			g := untouched(t, topo)
			rules, saved := g.others(t), save()
			same := func(when string) {
				t.Helper()
				if now := g.others(t); now != rules {
					t.Errorf("%s: somebody else's rules have changed\n%s", when, difference(rules, now))
				}
				if now := save(); now != saved {
					t.Errorf("%s: iptables-save says something else\n%s", when, difference(saved, now))
				}
			}
			g.apply(t, lanToWAN)
			same("after apply")
			each(t, func(t *testing.T, ip family) { opens(t, g.LAN1, at(ip.outside, 80), ip.uplink) })
			g.apply(t, lanToWAN+`
forward:
  rules:
    - {from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
`)
			same("after another apply")
			each(t, func(t *testing.T, ip family) {
				opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
				fails(t, g.LAN1, at(ip.outside, 25), lab.IsRefused)
			})
			if c.iptables {
				// The guests' way is theirs: out by masquerade, in by DNAT.
				held := opens(t, g.Guest, at(lab.Outside, 80), lab.GatewayUplink)
				carries(t, held)
				g.delete(t)
				g.Forwarding(true)
				carries(t, held) // delete cuts our flows alone
			} else {
				g.delete(t)
			}
			same("after delete")
		})
	}
}
