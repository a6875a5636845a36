package policy

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// unseen is a mistake that the parser sees and a schema cannot: the class that
// it belongs to, the parser's words, and a policy that has no other mistake.
type unseen struct{ class, words, example string }

const unseenZones = "version: 1\nzones: {lan: {interfaces: eth1, networks: 10.0.0.0/8}, wan: {interfaces: eth0}}\n"

func unseenMistakes() []unseen {
	return []unseen{
		{"names that nothing has", "there is no zone", "masquerade: {from: lan, to: wam}"},
		{"names that nothing has", "there is no set", "masquerade: {from: lan, to: wan, sources: \"@a\"}"},
		{"files", "cannot read", "sets: {a: {file: missing.txt}}"},
		{"what two places say", "is declared twice|the key .* is there twice", "sets: {a: [], a: []}"},
		{"what two places say", "the name .* is taken", "redirect: [{name: a, from: lan, protocol: tcp}, {name: a, from: lan, protocol: udp}]"},
		{"what two places say", "would be the name of this entry", "redirect: [{from: lan, protocol: tcp}, {from: wan, protocol: tcp}]"},
		{"what two places say", "is named twice", "masquerade: {from: [lan, lan], to: wan}"},
		{"what two places say", "share a type number", "forward: {rules: {icmp_types: [router-solicitation, nd-router-solicit], action: drop}}"},
		{"what two places say", "are of one family", "zones: {wan: {interfaces: eth0, symmetric: {gateway: [192.0.2.1, 192.0.2.2]}}}"},
		{"what overlaps, or leaves nothing", "overlap in", "gateway: {reserved_ports: [80-90, 85]}"},
		{"what overlaps, or leaves nothing", "leaves nothing", "port_forward: {from: wan, protocol: tcp, ports: 80, except_ports: 80, to: 10.0.0.1}"},
		{"what overlaps, or leaves nothing", "is not within `ports`", "port_forward: {from: wan, protocol: tcp, ports: 80, except_ports: 81, to: 10.0.0.1}"},
		{"families", "can match nothing", "masquerade: {from: lan, to: wan, family: ipv6, sources: 10.0.0.1}"},
		{"families", "is never seen here", "one_to_one: {name: a, zone: wan, outside: 192.0.2.1, inside: 10.0.0.1, expose: icmpv6}"},
		{"families", "one_to_one translates within a family", "one_to_one: {name: a, zone: wan, outside: 192.0.2.1, inside: \"2001:db8::1\"}"},
		{"numbers beside one another", "runs backwards", "gateway: {reserved_ports: 90-80}"},
		{"numbers beside one another", "bits set beyond", "sets: {a: 10.0.0.1/8}"},
		{"numbers beside one another", "a range goes to one of the same length", "port_forward: {from: wan, protocol: tcp, ports: 80-90, to: 10.0.0.1:80-85}"},
		{"numbers beside one another", "cannot go to a range", "port_forward: {from: wan, protocol: tcp, ports: all, to: 10.0.0.1:80-85}"},
		{"numbers beside one another", "bits that its mask leaves out", "forward: {rules: {action: accept, mark: 0xff/0x1}}"},
		{"numbers beside one another", "both prefixes have one length", "one_to_one: {name: a, zone: wan, outside: 192.0.2.1, inside: 10.0.0.0/24}"},
		{"numbers beside one another", "is the same as `outside`", "one_to_one: {name: a, zone: wan, outside: 192.0.2.1, inside: 192.0.2.1}"},
		{"bounds of numbers in a text", "more than the kernel can count", "forward: {rules: {action: accept, rate: 2000000000/second}}"},
		{"bounds of numbers in a text", "is not a rate", "forward: {rules: {action: accept, rate: 9999999999/second}}"},
		{"bounds of numbers in a text", "longer than the kernel can count", "masquerade: {from: lan, to: wan, timeouts: {icmp: 600h}}"},
		{"bounds of numbers in a text", "a duration is at least", "masquerade: {from: lan, to: wan, timeouts: {icmp: 0s}}"},
		{"bounds of numbers in a text", "is not a mark", "forward: {rules: {action: accept, mark: 0x1ffffffff/0x1}}"},
		{"bounds of numbers in a text", "the mask of", "forward: {rules: {action: accept, mark: 0x1/0x0}}"},
		{"bounds of numbers in a text", "a mark of 0", "zones: {wan: {interfaces: eth0, symmetric: {mark: 0x0/0xff}}}"},
		{"bounds of numbers in a text", "takes a number", "gateway: {conntrack: {max: \"0\"}}"},
		{"bounds of numbers in a text", "takes the number of", "zones: {wan: {interfaces: eth0, symmetric: {table: \"0\"}}}"},
		{"bounds of numbers in a text", "the routing table \\d+ is one", "zones: {wan: {interfaces: eth0, symmetric: {table: 254}}}"},
		{"bounds of numbers in a text", "a segment size of", "zones: {wan: {interfaces: eth0, mss_clamp: \"5\"}}"},
		{"bounds of numbers in a text", "too long for an interface", "zones: {wan: {interfaces: \"éééééééé\"}}"},
		{"what a value means", "is the gateway itself", "port_forward: {from: wan, protocol: tcp, ports: 80, to: 127.0.0.1}"},
		{"what a value means", "is not the address of a host", "port_forward: {from: wan, protocol: tcp, ports: 80, to: 224.0.0.1}"},
		{"what a value means", "in IPv6 clothes", "sets: {a: \"::ffff:10.0.0.1\"}"},
		{"what a value means", "goes beyond the loopback", "port_forward: {from: wan, address: 127.0.0.0-128.0.0.0, protocol: tcp, ports: 80, to: 10.0.0.1}"},
		{"what a value means", "stands alone", "masquerade: {from: [lan, any], to: wan}"},
		{"what a value means", "needs the interfaces of that zone", "zones: {lan: {interfaces: eth1}, far: {networks: 10.0.0.0/8}}\nmasquerade: {from: lan, to: far}"},
		{"what a value means", "is for an uplink", "zones: {far: {networks: 10.0.0.0/8, symmetric: true}}"},
		{"what a value means", "never used", "masquerade: {from: lan, to: wan, protocol: udp, helpers: ftp}"},
		{"keys that go together", "has no ports", "masquerade: {from: lan, to: wan, protocol: gre, ports: 80}"},
		{"keys that go together", "`to_port` needs a `protocol`|the protocol .* has no ports", "redirect: {from: lan, protocol: icmp, to_port: 80}"},
		{"keys that go together", "never meet in one packet", "forward: {rules: {protocol: tcp, ports: 80, icmp_types: echo-request, action: drop}}"},
		{"keys that go together", "is about connections that are accepted", "forward: {rules: {action: drop, max_connections: {total: 1}}}"},
		{"keys that go together", "is for TCP alone", "forward: {rules: {action: accept, synproxy: true}}"},
		{"keys that go together", "`icmp_types`", "forward: {rules: {protocol: tcp, icmp_types: echo-request, action: accept}}"},
		{"keys that go together", "is no type of", "forward: {rules: {protocol: icmp, icmp_types: [echo-request, packet-too-big], action: accept}}"},
		{"keys that go together", "`level` is of the kernel log", "forward: {rules: {action: accept, log: {level: warn, group: 1}}}"},
		{"keys that go together", "is for several targets", "port_forward: {from: wan, protocol: tcp, ports: 80, to: 10.0.0.1, sticky: true}"},
		{"keys that go together", "nothing to distribute", "snat: {from: lan, to: wan, addresses: 192.0.2.1, ports_per_host: 100, distribution: kernel}"},
		{"keys that go together", "an offload needs `zones`", "gateway: {offload: {hardware: true}}"},
		{"keys that go together", "a port_forward entry needs `from`", "port_forward: {address: 192.0.2.1, protocol: tcp, ports: 80, to: 10.0.0.1}"},
		{"how YAML writes it", "the tag .* has no meaning", "sets: {a: !!str 10.0.0.1}"},
		{"how YAML writes it", "a second document begins here", "---\nversion: 1"},
		{"how YAML writes it", "the invisible character", "sets: {} # \u2028"},
		{"how YAML writes it", "a tab indents", "sets:\n\t{}"},
		{"names made of content", "the name derived", "redirect: {from: lan, protocol: tcp, ports: [10000, 10001, 10002, 10003, 10004, 10005, 10006, 10007, 10008, 10009, 10010]}"},
		{"names made of content", "no name can be derived", "port_forward: {from: wan, map: {file: any.txt}}"},
	}
}

// TestSchemaUnseen: each class is of mistakes that the parser reports, and
// that the schema does not.
func TestSchemaUnseen(t *testing.T) {
	s := compiledSchema(t)
	for _, m := range unseenMistakes() {
		text := []byte(unseenZones + m.example + "\n")
		if bytes.HasPrefix([]byte(m.example), []byte("zones:")) {
			text = []byte("version: 1\n" + m.example + "\n")
		}
		_, err := parse("policy.yaml", text, func(path string) ([]byte, error) {
			if path == "any.txt" {
				return nil, nil
			}
			return readReferred(path)
		})
		errs, _ := err.(Errors)
		if len(errs) == 0 || !regexp.MustCompile(m.words).MatchString(errs[0].Message) {
			t.Errorf("%s: %s: the parser says %v, and not %q", m.class, m.example, err, m.words)
		}
		if v, ok := asInstance(text); ok {
			if err := s.Validate(v); err != nil {
				t.Errorf("%s: %s: the schema sees it: %v", m.class, m.example, err)
			}
		}
	}
}

// unseenWords are the words of all classes.
func unseenWords() *regexp.Regexp {
	var words []string
	for _, m := range unseenMistakes() {
		words = append(words, m.words)
	}
	return regexp.MustCompile(strings.Join(words, "|"))
}

// parserSees tells whether a mistake is of those classes. One more is a number
// or true in a place that takes a text: a schema is shown 80 for 0x50 and 80.0.
func parserSees(classes *regexp.Regexp, text []byte, e *Error) bool {
	if classes.MatchString(e.Message) {
		return true
	}
	l := lines{text: text}
	line := l.line(e.Line)
	word := line[min(e.Column-1, len(line)):]
	if i := bytes.IndexAny(word, ",]}"); i >= 0 {
		word = word[:i]
	}
	var n yaml.Node
	if err := yaml.Unmarshal(word, &n); err != nil || len(n.Content) != 1 {
		return false
	}
	return slices.Contains([]string{"!!int", "!!float", "!!bool"}, n.Content[0].Tag)
}
