package flows_test

import "testing"

// A flow is of one entry, and the others that it went through are told too.
func TestAlso(t *testing.T) {
	j := judgeOn(t, gateway(), `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24]}
  wan: {interfaces: [eth0, eth3]}
snat:
  - {name: pool, from: dmz, to: lan, addresses: 192.168.1.1}
masquerade:
  - {name: nat, from: lan, to: wan, forward: false}
  - {name: open, from: dmz, to: wan}
port_forward:
  - {name: web, from: [wan, dmz], protocol: tcp, ports: 8080, to: "192.168.1.10:80"}
forward:
  rules:
    - {name: rule, from: lan, to: wan, protocol: tcp, ports: 80, action: accept}
    - {name: inside, from: lan, to: dmz, action: accept}
`)
	for _, c := range []struct{ flow, of, source, rule string }{
		{"tcp 192.168.1.10:4000 > 100.64.0.1:80 -> 203.0.113.1:4000 > 100.64.0.1:80", "masquerade nat", "", "forward rule"},
		{"tcp 192.168.2.10:4000 > 100.64.0.1:80 -> 203.0.113.1:4000 > 100.64.0.1:80", "masquerade open", "", ""},
		{"tcp 192.168.1.10:4000 > 192.168.2.10:80", "forward inside", "", ""},
		{"tcp 100.64.0.1:4000 > 203.0.113.1:8080 -> 100.64.0.1:4000 > 192.168.1.10:80", "port_forward web", "", ""},
		{"tcp 192.168.2.10:4000 > 203.0.113.1:8080 -> 192.168.1.1:4000 > 192.168.1.10:80", "port_forward web", "snat pool", ""},
		{"tcp 172.17.0.5:4000 > 172.17.0.9:80", "", "", ""},
	} {
		got := j.Judge(flow(t, c.flow))
		if got.Origin.Entry != c.of || got.Also[0].Entry != c.source || got.Also[1].Entry != c.rule {
			t.Errorf("%s: of %q, also %q and %q; want %q, %q and %q", c.flow, got.Origin.Entry, got.Also[0].Entry, got.Also[1].Entry, c.of, c.source, c.rule)
		}
	}
}
