package oracle

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/random"
)

// TestCases is what the oracle has found once.
func TestCases(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	g := NewGateway(t)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			packets, err := packetsIn(string(text))
			if err != nil || len(packets) == 0 {
				t.Fatalf("%d packets: %v", len(packets), err)
			}
			found, err := g.Try(string(text), packets)
			if err != nil {
				t.Fatal(err)
			}
			if found != nil {
				t.Errorf("%s", found)
			}
		})
	}
}

const watched = `version: 1
zones:
  lan: {interfaces: eth1, networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2, eth3]}
  wan: {interfaces: eth0}
sets: {some: [198.51.100.0/24, "2001:db8:5::/64"]}
masquerade:
  - {name: m, from: lan, to: wan, except_destinations: "@some"}
snat:
  - {name: s, from: dmz, to: wan, addresses: [203.0.113.40, 203.0.113.42], protocol: [tcp, udp], ports: 8000-8010}
one_to_one:
  - {name: o, zone: wan, outside: 203.0.113.128/29, inside: 192.168.2.64/29, expose: [tcp/25, icmp]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.2.10:8080}
  - {name: two, from: wan, protocol: udp, ports: 5000-5010, to: [192.168.1.20, 192.168.1.21]}
  - {name: six, from: wan, protocol: tcp, ports: 22, to: "fd00:1::10"}
redirect:
  - {name: r, from: lan, protocol: tcp, ports: 3000, to_port: 3128}
forward:
  default: reject
  rules:
    - {name: a, from: lan, to: dmz, protocol: tcp, ports: 1-1023, action: accept}
    - {name: b, from: dmz, to: lan, protocol: icmp, icmp_types: echo-request, action: accept, mark: 0x30000}
    - {name: c, from: lan, to: wan, protocol: udp, action: drop}
input:
  default: drop
  rules:
    - {name: i, from: lan, protocol: tcp, ports: [22, 3128], action: accept}
`

// TestNoticesMistakes tells the judge of a policy that is a little different
// from the one in force: each time a packet shows it.
func TestNoticesMistakes(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	g := NewGateway(t)
	g.Facts()
	p, err := random.Read(watched, g.Facts())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Apply(p.Parsed); err != nil {
		t.Fatal(err)
	}
	play := func(t *testing.T, text string, n int) (sent int, found *Difference) {
		told, err := random.Read(text, g.Facts())
		if err != nil {
			t.Fatal(err)
		}
		j := g.judge(told)
		a := newAim(rand.New(rand.NewPCG(1, 2)), told, g)
		for range n {
			round := g.play(j, a.packets(flowsA, j))
			sent += round.Sent
			if len(round.Differences) > 0 {
				return sent, &round.Differences[0]
			}
		}
		return sent, nil
	}
	if _, found := play(t, watched, 12); found != nil {
		t.Fatalf("without a mistake:\n%s", found)
	}
	for _, mistake := range [][2]string{
		{"ports: 80,", "ports: 81,"}, {"192.168.2.10:8080", "192.168.2.10:8081"}, {"192.168.2.10:8080", "192.168.2.11:8080"}, {"192.168.1.21]", "192.168.1.22]"},
		{"5000-5010", "5000-5011"}, {`"fd00:1::10"}`, `"fd00:1::11"}`}, {"to_port: 3128", "to_port: 3129"}, {"ports: 3000", "ports: 3001"},
		{"203.0.113.42]", "203.0.113.43]"}, {"8000-8010", "9000-9010"}, {"[tcp, udp]", "tcp"}, {`, except_destinations: "@some"`, ""}, {`except_destinations: "@some"`, `except_destinations: 198.51.100.0/25`},
		{"203.0.113.128/29", "203.0.113.136/29"}, {"tcp/25, icmp", "tcp/26, icmp"}, {"tcp/25, icmp", "tcp/25"},
		{"default: reject", "default: drop"}, {"default: reject", "default: accept"}, {"1-1023", "2000-3000"}, {"action: accept, mark", "action: drop, mark"},
		{"action: drop}\ninput", "action: reject}\ninput"}, {"from: lan, protocol: tcp, ports: [22, 3128]", "from: any, protocol: tcp, ports: [22, 3128]"},
		{"default: drop", "default: accept"}, {`networks: [192.168.1.0/24, "fd00:1::/64"]`, `networks: [192.168.1.0/24, "fd00:1::/64"], antispoof: false`},
		{"dmz: {interfaces: [eth2, eth3]}", "dmz: {interfaces: [eth2]}"}, {"mark: 0x30000", "mark: 0x40000"},
	} {
		if text := strings.Replace(watched, mistake[0], mistake[1], 1); text == watched {
			t.Errorf("%s is not in the policy", mistake[0])
		} else if sent, found := play(t, text, 60); found == nil {
			t.Errorf("%d packets do not show that %q is %q", sent, mistake[0], mistake[1])
		} else {
			t.Logf("%q for %q: after %d packets", mistake[1], mistake[0], sent)
		}
	}
}
