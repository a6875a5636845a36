package flows_test

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// two zones, of one uplink, as most of the policies below have them.
const sides = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
`

// TestEntries holds every kind of entry against flows that it makes, and that it
// would not make.
func TestEntries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, policy string
		flows        []expectation
	}{
		{"snat", sides + `snat:
  - {name: one, from: lan, to: wan, sources: 192.168.1.10, addresses: 203.0.113.20}
  - {name: sticky, from: lan, to: wan, addresses: [203.0.113.32/29, "2001:db8:5::10-2001:db8:5::1f"], except_destinations: 10.0.0.0/8}
  - {name: turn, from: dmz, to: wan, protocol: tcp, addresses: [203.0.113.50, 203.0.113.52-203.0.113.53], distribution: round-robin}
  - {name: ports, from: dmz, to: wan, protocol: udp, addresses: 203.0.113.60, outside_ports: 40000-40099}
  - {name: closed, from: dmz, to: wan, protocol: icmp, addresses: 203.0.113.61, forward: false}
`, []expectation{
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.20:4000 > 8.8.8.8:443", "lan wan snat one ours"},
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.20:1024 > 8.8.8.8:443", "lan wan snat one ours"},
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.33:4000 > 8.8.8.8:443", "lan wan - not: snat one would leave as 203.0.113.20"},
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443", "lan wan - not: snat one is not translated"},
			{"tcp 192.168.1.11:4000 > 8.8.8.8:443 -> 203.0.113.39:4000 > 8.8.8.8:443", "lan wan snat sticky ours"},
			{"tcp 192.168.1.11:4000 > 8.8.8.8:443 -> 203.0.113.40:4000 > 8.8.8.8:443", "lan wan - not: snat sticky would leave as 203.0.113.32"},
			{"udp [fd00:1::5]:53 > [2001:db8:f::1]:53 -> [2001:db8:5::1f]:53 > [2001:db8:f::1]:53", "lan wan snat sticky ours"},
			{"udp [fd00:1::5]:53 > [2001:db8:f::1]:53 -> [2001:db8:5::20]:53 > [2001:db8:f::1]:53", "lan wan - not: snat sticky would leave as 2001:db8:5::10"},
			{"tcp 192.168.1.11:4000 > 10.1.1.1:443 -> 203.0.113.39:4000 > 10.1.1.1:443", "lan wan - not: forward default would be dropped"},
			{"tcp 192.168.2.1:4000 > 8.8.8.8:443", "gateway wan -"},
			{"tcp 192.168.2.7:4000 > 8.8.8.8:443 -> 203.0.113.53:4000 > 8.8.8.8:443", "dmz wan snat turn ours"},
			{"tcp 192.168.2.7:4000 > 8.8.8.8:443 -> 203.0.113.51:4000 > 8.8.8.8:443", "dmz wan - not: snat turn would leave as 203.0.113.50"},
			{"udp 192.168.2.7:4000 > 8.8.8.8:443 -> 203.0.113.60:40099 > 8.8.8.8:443", "dmz wan snat ports ours"},
			{"udp 192.168.2.7:4000 > 8.8.8.8:443 -> 203.0.113.60:4000 > 8.8.8.8:443", "dmz wan - not: snat ports would leave as 203.0.113.60:40000"},
			{"icmp 192.168.2.7 > 8.8.8.8 -> 203.0.113.61 > 8.8.8.8", "dmz wan - not: forward default would be dropped"},
		}},
		{"blocks", sides + `snat:
  - {name: few, from: lan, to: wan, sources: [192.168.1.8/30], addresses: [203.0.113.20, 203.0.113.21], outside_ports: 2000-4999, ports_per_host: 1000}
  - {name: six, from: lan, to: wan, sources: "fd00:1::10-fd00:1::14", addresses: "2001:db8::7-2001:db8::8", ports_per_host: 16384, protocol: [tcp, icmpv6]}
`, []expectation{
			{"tcp 192.168.1.8:4000 > 8.8.8.8:443 -> 203.0.113.20:2999 > 8.8.8.8:443", "lan wan snat few ours"},
			{"tcp 192.168.1.9:4000 > 8.8.8.8:443 -> 203.0.113.20:2999 > 8.8.8.8:443", "lan wan - not: snat few would leave as 203.0.113.20:3000"},
			{"tcp 192.168.1.11:4000 > 8.8.8.8:443 -> 203.0.113.21:2000 > 8.8.8.8:443", "lan wan snat few ours"},
			{"icmp 192.168.1.11 > 8.8.8.8 -> 203.0.113.21 > 8.8.8.8", "lan wan snat few ours"},
			{"tcp 192.168.1.11:4000 > 8.8.8.8:443 -> 203.0.113.20:2000 > 8.8.8.8:443", "lan wan - not: snat few would leave as 203.0.113.21"},
			{"tcp [fd00:1::11]:4000 > [2001:db8:f::1]:443 -> [2001:db8::7]:17408 > [2001:db8:f::1]:443", "lan wan snat six ours"},
			{"tcp [fd00:1::11]:4000 > [2001:db8:f::1]:443 -> [2001:db8::7]:17407 > [2001:db8:f::1]:443", "lan wan - not: snat six would leave as [2001:db8::7]:17408"},
		}},
		{"masquerade with ports", sides + `masquerade:
  - {name: m, from: lan, to: wan, protocol: [tcp, udp], outside_ports: 32768-65535}
  - {name: rest, from: lan, to: wan, except_destinations: 10.0.0.0/8}
`, []expectation{
			{"tcp 192.168.1.8:4000 > 8.8.8.8:443 -> 203.0.113.1:32768 > 8.8.8.8:443", "lan wan masquerade m ours"},
			{"tcp 192.168.1.8:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "lan wan - not: masquerade m would leave as 203.0.113.1:32768"},
			{"sctp 192.168.1.8:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "lan wan masquerade rest ours"},
			{"sctp 192.168.1.8:4000 > 10.8.8.8:443", "lan wan - not: forward default would be dropped"},
		}},
		{"one_to_one", sides + `masquerade: {name: rest, from: [lan, dmz], to: wan}
one_to_one:
  - {name: mail, zone: wan, outside: 203.0.113.10, inside: 192.168.1.10, expose: [tcp/25, icmp]}
  - {name: net, zone: wan, outside: 198.18.0.16/28, inside: 192.168.2.16/28, expose: tcp/8000-8010}
  - {name: six, zone: wan, outside: "2001:db8:5::/64", inside: "fd00:2::/64", expose: all}
`, []expectation{
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.10:4000 > 8.8.8.8:443", "lan wan one_to_one mail ours"},
			{"tcp 192.168.1.10:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "lan wan - not: one_to_one mail would leave as 203.0.113.10"},
			{"tcp 192.168.1.11:4000 > 8.8.8.8:443 -> 203.0.113.1:4000 > 8.8.8.8:443", "lan wan masquerade rest ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.10:25 -> 8.8.8.8:4000 > 192.168.1.10:25", "wan lan one_to_one mail ours"},
			{"icmp 8.8.8.8 > 203.0.113.10 -> 8.8.8.8 > 192.168.1.10", "wan lan one_to_one mail ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.10:26 -> 8.8.8.8:4000 > 192.168.1.10:26", "wan lan one_to_one mail ours not: forward default would be dropped"},
			{"tcp 192.168.2.20:4000 > 8.8.8.8:443 -> 198.18.0.20:4000 > 8.8.8.8:443", "dmz wan one_to_one net ours"},
			{"tcp 192.168.2.20:4000 > 8.8.8.8:443 -> 198.18.0.21:4000 > 8.8.8.8:443", "dmz wan - not: one_to_one net would leave as 198.18.0.20"},
			{"tcp 8.8.8.8:4000 > 198.18.0.31:8005 -> 8.8.8.8:4000 > 192.168.2.31:8005", "wan dmz one_to_one net ours"},
			{"tcp 8.8.8.8:4000 > 198.18.0.31:8005 -> 8.8.8.8:4000 > 192.168.2.30:8005", "wan dmz - not: one_to_one net would go to 192.168.2.31:8005"},
			{"tcp [2001:db8:f::1]:4000 > [2001:db8:5::a:b]:8005 -> [2001:db8:f::1]:4000 > [fd00:2::a:b]:8005", "wan dmz one_to_one six ours"},
			{"udp [fd00:2::a:b]:4000 > [2001:db8:f::1]:53 -> [2001:db8:5::a:b]:4000 > [2001:db8:f::1]:53", "dmz wan one_to_one six ours"},
			// Hairpin within the target's network, and the gateway's own.
			{"tcp 192.168.1.5:4000 > 203.0.113.10:25 -> 192.168.1.1:4000 > 192.168.1.10:25", "lan lan one_to_one mail ours"},
			{"tcp 203.0.113.1:4000 > 203.0.113.10:25 -> 203.0.113.1:4000 > 192.168.1.10:25", "gateway lan one_to_one mail ours"},
		}},
		{"targets", sides + `port_forward:
  - {name: near, from: wan, protocol: tcp, ports: 8000, to: [192.168.2.1, 192.168.2.2, 192.168.2.3], sources: 192.0.2.0/24, hairpin: {zones: lan}, masquerade: true}
  - {name: mixed, from: wan, protocol: [tcp, udp], ports: 8000-8003, except_ports: 8002, to: [192.168.1.10:9000-9003, 192.168.1.11, 192.168.1.12:80, "[fd00:1::1]:80"]}
  - {name: sticky, from: wan, address: 203.0.113.9, protocol: tcp, ports: 81, to: [192.168.1.13, 192.168.1.14:82], sticky: true}
`, []expectation{
			{"tcp 192.0.2.5:4000 > 203.0.113.1:8000 -> 192.168.2.1:4000 > 192.168.2.3:8000", "wan dmz port_forward near ours"},
			{"tcp 192.0.2.5:4000 > 203.0.113.1:8000 -> 192.0.2.5:4000 > 192.168.2.3:8000", "wan dmz port_forward near ours not: port_forward is not translated"},
			{"tcp 192.0.2.5:4000 > 203.0.113.1:8000 -> 192.168.2.1:4000 > 192.168.2.4:8000", "wan dmz - not: port_forward near would go to 192.168.2.1:8000"},
			{"tcp 8.8.8.8:4000 > 203.0.113.1:8001 -> 8.8.8.8:4000 > 192.168.1.10:9001", "wan lan port_forward mixed ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.1:8001 -> 8.8.8.8:4000 > 192.168.1.11:8001", "wan lan port_forward mixed ours"},
			{"udp 8.8.8.8:4000 > 203.0.113.1:8001 -> 8.8.8.8:4000 > 192.168.1.12:80", "wan lan port_forward mixed ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.1:8001 -> 8.8.8.8:4000 > 192.168.1.12:81", "wan lan - not: port_forward mixed would go to 192.168.1.10:9001"},
			{"udp [2001:db8:f::1]:4000 > [2001:db8::1]:8001 -> [2001:db8:f::1]:4000 > [fd00:1::1]:80", "wan gateway port_forward mixed ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.9:81 -> 8.8.8.8:4000 > 192.168.1.14:82", "wan lan port_forward sticky ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.1:81", "wan gateway -"},
		}},
		{"map and hairpin", sides + `port_forward:
  - {name: many, from: wan, map: {tcp/8101: "192.168.2.11:80", tcp/8200-8210: "192.168.2.12"}}
  - {name: seen, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10, hairpin: {zones: lan, source: outside}}
  - {name: never, from: wan, protocol: tcp, ports: 81, to: 192.168.1.10, hairpin: false}
  - {name: time, from: lan, address: any, protocol: udp, ports: 123, to: 192.168.2.9}
`, []expectation{
			{"tcp 8.8.8.8:4000 > 203.0.113.1:8101 -> 8.8.8.8:4000 > 192.168.2.11:80", "wan dmz port_forward many ours"},
			{"tcp 8.8.8.8:4000 > 203.0.113.1:8205 -> 8.8.8.8:4000 > 192.168.2.12:8205", "wan dmz port_forward many ours"},
			{"tcp 192.168.2.5:4000 > 203.0.113.1:8205 -> 192.168.2.1:4000 > 192.168.2.12:8205", "dmz dmz port_forward many ours"},
			{"tcp 192.168.1.5:4000 > 203.0.113.1:80 -> 203.0.113.1:4000 > 192.168.1.10:80", "lan lan port_forward seen ours"},
			{"tcp 192.168.1.5:4000 > 203.0.113.1:80 -> 192.168.1.1:4000 > 192.168.1.10:80", "lan lan port_forward seen ours not: port_forward would leave as 203.0.113.1"},
			{"tcp 192.168.1.5:4000 > 203.0.113.1:81", "lan gateway -"},
			{"tcp 192.168.1.5:4000 > 203.0.113.1:81 -> 192.168.1.1:4000 > 192.168.1.10:81", "lan lan - foreign not: port_forward would not be translated"},
			{"tcp 203.0.113.1:4000 > 203.0.113.1:80", "gateway gateway -"},
			{"udp 192.168.1.5:4000 > 9.9.9.9:123 -> 192.168.1.5:4000 > 192.168.2.9:123", "lan dmz port_forward time ours"},
			{"udp 192.168.1.5:4000 > 9.9.9.9:123", "lan wan - not: port_forward time is not translated"},
		}},
		{"loopback", sides + `port_forward:
  - {name: database, address: 127.0.0.1, protocol: tcp, ports: 5432, to: 192.168.1.10}
  - {name: dns6, address: "::1", protocol: udp, ports: 53, to: "fd00:1::11"}
`, []expectation{
			{"tcp 127.0.0.1:4000 > 127.0.0.1:5432 -> 192.168.1.1:4000 > 192.168.1.10:5432", "gateway lan port_forward database ours"},
			{"tcp 127.0.0.1:4000 > 127.0.0.1:5432", "gateway gateway - not: port_forward database is not translated"},
			{"tcp 127.0.0.1:4000 > 127.0.0.1:5433", "gateway gateway -"},
			{"udp [::1]:4000 > [::1]:53 -> [fd00:1::1]:4000 > [fd00:1::11]:53", "gateway lan port_forward dns6 ours"},
		}},
		{"redirect", sides + `redirect:
  - {name: http, from: lan, protocol: tcp, ports: [80, 8080], to_port: 3128, except_sources: 192.168.1.200, except_destinations: 192.0.2.0/24}
  - {name: dns, from: lan, protocol: [tcp, udp], ports: 53, local: true}
  - {name: ping, from: lan, protocol: [icmp, icmpv6]}
masquerade: {name: rest, from: lan, to: wan}
`, []expectation{
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 192.168.1.5:4000 > 192.168.1.1:3128", "lan gateway redirect http ours"},
			{"tcp [fd00:1::5]:4000 > [2001:db8:f::1]:80 -> [fd00:1::5]:4000 > [fd00:1::1]:3128", "lan gateway redirect http ours"},
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 192.168.1.5:4000 > 192.168.1.1:3129", "lan gateway - not: redirect http would go to 192.168.1.1:3128"},
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 203.0.113.1:4000 > 8.8.8.8:80", "lan wan - not: redirect http is not translated"},
			{"tcp 192.168.1.200:4000 > 8.8.8.8:80 -> 203.0.113.1:4000 > 8.8.8.8:80", "lan wan masquerade rest ours"},
			{"udp 192.168.1.5:4000 > 8.8.8.8:53 -> 192.168.1.5:4000 > 192.168.1.1:53", "lan gateway redirect dns ours"},
			{"udp 192.168.1.5:4000 > 192.168.1.1:53", "lan gateway -"},
			{"tcp 192.168.1.5:4000 > 192.168.1.1:3128", "lan gateway - not: closed redirect ports would be dropped"},
			{"udp 203.0.113.1:4000 > 8.8.8.8:53 -> 203.0.113.1:4000 > 127.0.0.1:53", "gateway gateway redirect dns ours"},
			{"icmp 192.168.1.5 > 8.8.8.8 -> 192.168.1.5 > 192.168.1.1", "lan gateway redirect ping ours"},
		}},
		{"forward rules", sides + `sets:
  bad: [198.18.0.0/15, 192.0.2.1]
forward:
  default: reject
  rules:
    - {name: bad, to: wan, destinations: "@bad", action: drop}
    - {name: pings, from: any, protocol: icmp, icmp_types: [echo-request], action: accept}
    - {name: web, from: lan, to: wan, protocol: tcp, ports: [80, 443], except_sources: 192.168.1.64/26, action: accept}
    - {name: quic, from: lan, to: wan, protocol: udp, ports: 443, source_ports: 1024-65535, action: accept}
    - {name: slow, from: dmz, to: wan, protocol: tcp, ports: 80, action: accept, rate: 1/hour, max_connections: {total: 1}}
    - {name: above, from: dmz, to: wan, protocol: udp, action: drop, rate: 1/hour}
    - {name: dmz, from: dmz, to: wan, protocol: udp, action: accept, log: true}
`, []expectation{
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80", "lan wan forward web"},
			{"tcp 192.168.1.70:4000 > 8.8.8.8:80", "lan wan - not: forward default would be rejected"},
			{"tcp 192.168.1.5:4000 > 198.19.0.1:80", "lan wan - not: forward bad would be dropped"},
			{"tcp 192.168.1.5:4000 > 192.0.2.1:80", "lan wan - not: forward bad would be dropped"},
			{"udp 192.168.1.5:4000 > 8.8.8.8:443", "lan wan forward quic"},
			{"udp 192.168.1.5:400 > 8.8.8.8:443", "lan wan - not: forward default would be rejected"},
			{"icmp 8.8.8.8 > 192.168.1.5", "wan lan forward pings"},
			{"icmpv6 2001:db8:f::1 > fd00:1::5", "wan lan - not: forward default would be rejected"},
			{"tcp 192.168.2.5:4000 > 8.8.8.8:80", "dmz wan forward slow"},
			{"udp 192.168.2.5:4000 > 8.8.8.8:80", "dmz wan forward dmz"},
		}},
		{"default accept", sides + "forward: {default: accept, rules: [{name: no, from: lan, protocol: tcp, ports: 25, action: drop}]}\n", []expectation{
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80", "lan wan forward default"},
			{"tcp 192.168.1.5:4000 > 8.8.8.8:25", "lan wan - not: forward no would be dropped"},
			// An entry that is gone looks as if another table had translated it.
			{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 203.0.113.1:4000 > 8.8.8.8:80", "lan wan - foreign"},
		}},
		{"antispoof", sides + "forward: {default: accept}\n", []expectation{
			// Its way back is out of eth0, so that it must have come from there.
			{"tcp 10.9.9.9:4000 > 192.168.1.5:80", "wan lan forward default"},
		}},
		{"synproxy", sides + `forward:
  rules:
    - {name: web, from: wan, to: dmz, protocol: tcp, ports: 80, action: accept, synproxy: true, max_connections: {total: 9}}
`, []expectation{
			{"tcp 8.8.8.8:4000 > 192.168.2.5:80", "wan dmz forward web"},
			{"tcp 8.8.8.8:4000 > 192.168.2.5:81", "wan dmz - not: forward default would be dropped"},
		}},
		{"marks", sides + `forward:
  rules:
    - {name: voice, from: lan, to: wan, protocol: udp, ports: 5060, action: accept, mark: 0x10/0xf0}
`, []expectation{
			{"udp 192.168.1.5:4000 > 8.8.8.8:5060", "lan wan forward voice"},
			{"udp 192.168.1.5:4000 > 8.8.8.8:5061", "lan wan - not: forward default would be dropped"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check(t, judgeOn(t, gateway(), c.policy), c.flows)
		})
	}
}

// TestUplinks looks at flows of two uplinks, which the tuples alone do not
// always tell apart.
func TestUplinks(t *testing.T) {
	t.Parallel()
	j := judgeOn(t, gateway(), `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0], symmetric: true}
  line: {interfaces: [eth3], symmetric: true}
masquerade: {name: m, from: lan, to: [wan, line]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}
  - {name: other, from: line, protocol: tcp, ports: 80, to: 192.168.1.11}
forward: {rules: [{name: in, from: line, to: lan, protocol: tcp, ports: 22, action: accept}]}
`)
	check(t, j, []expectation{
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 203.0.113.1:4000 > 8.8.8.8:80", "lan wan masquerade m ours"},
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 198.51.100.1:4000 > 8.8.8.8:80", "lan line masquerade m ours"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80 -> 8.8.8.8:4000 > 192.168.1.10:80", "wan lan port_forward web ours"},
		{"tcp 8.8.8.8:4000 > 198.51.100.1:80 -> 8.8.8.8:4000 > 192.168.1.11:80", "line lan port_forward other ours"},
		{"tcp 8.8.8.8:4000 > 198.51.100.1:80 -> 8.8.8.8:4000 > 192.168.1.10:80", "line lan - not: port_forward other would go to 192.168.1.11:80"},
		// What is routed can have come by either.
		{"tcp 8.8.8.8:4000 > 192.168.1.5:22", "line lan forward in"},
		{"tcp 8.8.8.8:4000 > 192.168.1.5:23", "wan lan - not: forward default would be dropped"},
	})
	// The mark tells where a flow came in.
	f := flow(t, "tcp 8.8.8.8:4000 > 192.168.1.5:23")
	f.Mark = 0x20000000
	if got, want := judged(j.Judge(f)), "line lan - not: forward default would be dropped"; got != want {
		t.Errorf("a marked flow: %s, want %s", got, want)
	}
}

// TestBackup has an uplink that is in no zone, where the rules let everything
// pass: it does not excuse what an entry would have done on the other one.
func TestBackup(t *testing.T) {
	t.Parallel()
	j := judgeOn(t, gateway(), sides+`masquerade: {name: m, from: lan, to: wan}
port_forward: {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.2.10}
forward: {default: accept}
`)
	check(t, j, []expectation{
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 203.0.113.77:4000 > 8.8.8.8:80", "lan wan - not: masquerade m would leave as 203.0.113.1"},
		// What another table does there is its own affair.
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 198.51.100.1:4000 > 8.8.8.8:80", "lan - - foreign"},
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80", "lan - forward default"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80 -> 8.8.8.8:4000 > 192.168.2.11:80", "wan dmz - not: port_forward web would go to 192.168.2.10:80"},
		{"tcp 8.8.8.8:4000 > 198.51.100.1:80 -> 8.8.8.8:4000 > 192.168.2.11:80", "- dmz - foreign"},
		{"tcp 8.8.8.8:4000 > 198.51.100.1:80", "- gateway -"},
	})
}

// TestNoRoute leaves alone what nothing can be said of.
func TestNoRoute(t *testing.T) {
	t.Parallel()
	f := gateway()
	f.Defaults = nil
	check(t, judgeOn(t, f, home), []expectation{
		{"tcp 8.8.8.8:4000 > 192.168.1.5:22", "- lan -"},
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 203.0.113.1:4000 > 8.8.8.8:80", "lan - -"},
		{"tcp 8.8.8.8:4000 > 203.0.113.1:80 -> 8.8.8.8:4000 > 192.168.2.10:80", "- dmz -"},
	})
}

// TestExpected judges what a helper announced by what it was announced in.
func TestExpected(t *testing.T) {
	t.Parallel()
	j := judgeOn(t, gateway(), sides+`masquerade: {name: m, from: lan, to: wan, helpers: ftp}
port_forward: {name: ftp, from: wan, protocol: tcp, ports: 21, to: 192.168.2.10, helpers: ftp}
`)
	data := func(text, master string) *conntrack.Flow {
		f := flow(t, text)
		f.Status |= conntrack.StatusExpected
		if master != "" {
			f.Master, f.MasterProtocol = flow(t, master).Original, 6
		}
		return f
	}
	for _, c := range []struct {
		f    *conntrack.Flow
		want string
	}{
		{data("tcp 192.168.1.5:4001 > 8.8.8.8:50000 -> 203.0.113.1:4001 > 8.8.8.8:50000", "tcp 192.168.1.5:4000 > 8.8.8.8:21"), "lan wan masquerade m ours"},
		{data("tcp 8.8.8.8:20 > 203.0.113.1:4001 -> 8.8.8.8:20 > 192.168.1.5:4001", "tcp 192.168.1.5:4000 > 8.8.8.8:21"), "wan lan masquerade m ours"},
		{data("tcp 192.168.2.10:20 > 8.8.8.8:4001 -> 203.0.113.1:20 > 8.8.8.8:4001", "tcp 8.8.8.8:4000 > 203.0.113.1:21"), "dmz wan port_forward ftp ours"},
		{data("udp 8.8.4.4:4001 > 203.0.113.1:5004 -> 8.8.4.4:4001 > 192.168.1.7:5004", "udp 192.168.1.5:5060 > 8.8.8.8:5060"), "wan lan masquerade m ours"},
		{data("tcp 8.8.8.8:4001 > 203.0.113.1:5000 -> 8.8.8.8:4001 > 192.168.2.10:5000", "tcp 8.8.8.8:4000 > 203.0.113.1:21"), "wan dmz port_forward ftp ours"},
		{data("tcp 8.8.8.8:4001 > 192.168.2.10:5000", "tcp 8.8.8.8:4000 > 192.168.2.10:21"), "wan dmz - not: forward default would be dropped"},
		{data("tcp 8.8.8.8:4001 > 192.168.2.10:5000", ""), "- - -"},
	} {
		if got := judged(j.Judge(c.f)); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.f, got, c.want)
		}
	}
}

// TestBorrowed has an uplink that holds no address: it leaves with another's.
func TestBorrowed(t *testing.T) {
	t.Parallel()
	f := gateway()
	f.Links[1].Addresses = nil
	f.Links = append(f.Links, link.Link{Name: "dummy0", Index: 9, Up: true, Kind: "dummy",
		Addresses: []link.Address{{Prefix: netip.MustParsePrefix("198.18.7.7/32")}}})
	f.Defaults = f.Defaults[:1]
	check(t, judgeOn(t, f, sides+"masquerade: {name: m, from: lan, to: wan}\n"), []expectation{
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 198.18.7.7:4000 > 8.8.8.8:80", "lan wan masquerade m ours"},
		{"tcp 192.168.1.5:4000 > 8.8.8.8:80 -> 192.168.1.1:4000 > 8.8.8.8:80", "lan wan masquerade m ours not: masquerade m would be dropped"},
	})
}

// TestLinkLocal finds hosts that are on no list of networks in the zone that
// alone has their interface, and in none where two have it.
func TestLinkLocal(t *testing.T) {
	t.Parallel()
	f := gateway()
	f.Links[1].Addresses = f.Links[1].Addresses[:3]
	const zone = "version: 1\nzones:\n  lan: {interfaces: [eth1], networks: [192.168.1.0/24, \"fd00:1::/64\"]}\n"
	const input = "input: {rules: [{name: dns, from: lan, protocol: udp, ports: 53, action: accept}]}\n"
	check(t, judgeOn(t, f, zone+input), []expectation{
		{"udp [fe80::5]:5000 > [fe80::1]:53", "lan gateway input dns"},
		{"udp [fd00:1::5]:5000 > [fe80::1]:53", "lan gateway input dns"},
	})
	check(t, judgeOn(t, f, zone+"  guests: {interfaces: [eth1], networks: [\"fd00:9::/64\"]}\n"+input), []expectation{
		{"udp [fe80::5]:5000 > [fe80::1]:53", "- gateway - not: input default would be dropped"},
	})
}
