package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// flow is a flow of TCP that an entry accounts for: what was sent, and what became
// of it.
func flow(entry, from, to, became, target string) Seen {
	a, b, c, d := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), netip.MustParseAddrPort(became), netip.MustParseAddrPort(target)
	s := Seen{Flow: conntrack.Flow{Protocol: conntrack.ProtocolTCP, State: conntrack.TCPSynSent, Timeout: 60 * time.Second, Status: conntrack.StatusConfirmed,
		Original: conntrack.Tuple{Source: a.Addr(), SourcePort: a.Port(), Destination: b.Addr(), DestinationPort: b.Port()},
		Reply:    conntrack.Tuple{Source: d.Addr(), SourcePort: d.Port(), Destination: c.Addr(), DestinationPort: c.Port()}}}
	if a != c {
		s.Status |= conntrack.StatusSNAT
	}
	if b != d {
		s.Status |= conntrack.StatusDNAT
	}
	s.Judgement = flows.Judgement{Origin: ruleset.Origin{Entry: entry, Place: ruleset.Place{File: "policy.yaml", Line: 6, Column: 5}}, Fits: true, Ours: true, From: "wan", To: "lan"}
	return s
}

func altered(s Seen, change func(*Seen)) Seen {
	change(&s)
	return s
}

func answered(s *Seen) {
	s.Status |= conntrack.StatusSeenReply | conntrack.StatusAssured
	s.State, s.Timeout = conntrack.TCPEstablished, 400*time.Hour
}

func web() Seen {
	return flow("port_forward web", "198.51.100.9:4000", "203.0.113.2:80", "198.51.100.9:4000", "192.168.1.10:80")
}

func outgoing(to string) Seen {
	return flow("masquerade out", "192.168.1.5:4000", to, "203.0.113.2:4000", to)
}

func TestFlowChecks(t *testing.T) {
	t.Parallel()
	neighbor := func(name, a string, state link.NeighborState) link.Neighbor {
		n := link.Neighbor{Interface: name, Address: netip.MustParseAddr(a), State: state}
		if !state.Silent() {
			n.MAC = "02:00:00:00:00:01"
		}
		return n
	}
	wants := ruleset.Origin{Entry: "masquerade out", Place: ruleset.Place{File: "policy.yaml", Line: 6, Column: 5}}
	for _, c := range []struct {
		name      string
		seen      []Seen
		neighbors []link.Neighbor
		probes    map[netip.AddrPort]Probe
		id        string // "": nothing is wrong
		severity  Severity
		says      string
	}{
		{name: "an answered flow", seen: []Seen{altered(web(), answered)}},
		{name: "nobody answers", seen: []Seen{web()}, id: "target-answers-elsewhere", severity: Broken, says: "write masquerade: true in port_forward web at policy.yaml:6:5"},
		{name: "it was just sent", seen: []Seen{altered(web(), func(s *Seen) { s.Timeout = 119 * time.Second })}},
		{name: "it was sent twice", seen: []Seen{altered(web(), func(s *Seen) { s.Timeout, s.Counted, s.Sent.Packets = 120*time.Second, true, 2 })}, id: "target-answers-elsewhere", severity: Broken},
		{name: "others were answered", seen: []Seen{web(), altered(flow("port_forward web", "198.51.100.9:4001", "203.0.113.2:80", "198.51.100.9:4001", "192.168.1.10:80"), answered)}},
		{name: "nobody is there", seen: []Seen{web()}, neighbors: []link.Neighbor{neighbor("eth1", "192.168.1.10", link.NeighborFailed)}, id: "target-silent", severity: Broken, says: "192.168.1.10 on eth1 is FAILED"},
		{name: "it is known to be there", seen: []Seen{web()}, neighbors: []link.Neighbor{neighbor("eth1", "192.168.1.10", link.NeighborStale)}, id: "target-answers-elsewhere", severity: Broken, says: "is STALE, 02:00:00:00:00:01: it is there"},
		{name: "it answers the gateway", seen: []Seen{web()}, probes: map[netip.AddrPort]Probe{netip.MustParseAddrPort("192.168.1.10:80"): ProbeOpen}, id: "target-answers-elsewhere", severity: Broken, says: "a connection of the gateway's own to 192.168.1.10:80 is accepted"},
		{name: "nothing listens", probes: map[netip.AddrPort]Probe{netip.MustParseAddrPort("192.168.1.10:80"): ProbeRefused}, id: "target-refuses", severity: Broken, says: "is refused"},
		{name: "nothing listens, and a client waits", seen: []Seen{web()}, probes: map[netip.AddrPort]Probe{netip.MustParseAddrPort("192.168.1.10:80"): ProbeRefused}, id: "target-refuses", severity: Broken, says: "is refused"},
		{name: "something listens", probes: map[netip.AddrPort]Probe{netip.MustParseAddrPort("192.168.1.10:80"): ProbeOpen}},
		{name: "another host is off", neighbors: []link.Neighbor{neighbor("eth1", "192.168.1.99", link.NeighborFailed)}},
		{name: "the next hop is off", neighbors: []link.Neighbor{neighbor("eth0", "203.0.113.1", link.NeighborIncomplete)}, id: "gateway-silent", severity: Broken, says: "203.0.113.1 on eth0 is INCOMPLETE"},
		{name: "the next hop of IPv6 is off", neighbors: []link.Neighbor{neighbor("eth0", "2001:db8:113::1", link.NeighborFailed)}, id: "gateway-silent", severity: Broken, says: "IPv6 default via 2001:db8:113::1"},
		{name: "its address on another link", neighbors: []link.Neighbor{neighbor("eth1", "203.0.113.1", link.NeighborFailed)}},
		{name: "a neighbour answers past the gateway", seen: []Seen{flow("port_forward web", "192.168.1.5:4000", "203.0.113.2:80", "192.168.1.5:4000", "192.168.1.10:80")}, id: "hairpin", severity: Broken, says: "both are behind eth1"},
		{name: "nothing out is answered", seen: []Seen{outgoing("198.51.100.1:443"), outgoing("198.51.100.2:443"), outgoing("198.51.100.3:443")}, id: "uplink-silent", severity: Broken, says: "198.51.100.3:443"},
		{name: "one is", seen: []Seen{outgoing("198.51.100.1:443"), outgoing("198.51.100.2:443"), outgoing("198.51.100.3:443"), altered(outgoing("198.51.100.4:443"), answered)}},
		{name: "one host does not answer", seen: []Seen{outgoing("198.51.100.1:443"), outgoing("198.51.100.1:80"), outgoing("198.51.100.1:22")}},
		{name: "what nobody answers anyway", seen: []Seen{
			altered(outgoing("198.51.100.1:514"), func(s *Seen) { s.Protocol = conntrack.ProtocolUDP }), altered(outgoing("198.51.100.2:514"), func(s *Seen) { s.Protocol = conntrack.ProtocolUDP }),
			altered(outgoing("198.51.100.3:514"), func(s *Seen) { s.Protocol = conntrack.ProtocolUDP })}},
		{name: "not translated", seen: []Seen{altered(flow("", "192.168.1.5:4000", "198.51.100.1:443", "192.168.1.5:4000", "198.51.100.1:443"), func(s *Seen) {
			answered(s)
			s.Judgement = flows.Judgement{Wants: wants, Why: flows.Missing}
		})}, id: "flows-untranslated", severity: Broken, says: "ipmasq connections kill --yes --protocol tcp --source 192.168.1.5 --destination 198.51.100.1 --source-port 4000 --destination-port 443"},
		{name: "forbidden now", seen: []Seen{altered(outgoing("198.51.100.1:25"), func(s *Seen) {
			answered(s)
			s.Fits, s.Why, s.Wants = false, flows.Rejected, ruleset.Origin{Entry: "forward no-mail"}
		})}, id: "flows-stale", severity: Risk, says: "would be rejected, by forward no-mail"},
		{name: "forbidden, and over", seen: []Seen{altered(outgoing("198.51.100.1:25"), func(s *Seen) {
			answered(s)
			s.Fits, s.Why, s.State = false, flows.Rejected, conntrack.TCPTimeWait
		})}},
		{name: "FTP", seen: []Seen{altered(outgoing("198.51.100.1:21"), answered)}, id: "helper-missing", severity: Risk, says: "write helpers: [ftp] in masquerade out"},
		{name: "FTP with its helper", seen: []Seen{altered(outgoing("198.51.100.1:21"), func(s *Seen) { answered(s); s.Helper = "ftp" })}},
		{name: "FTP of nobody of ours", seen: []Seen{altered(outgoing("198.51.100.1:21"), func(s *Seen) { answered(s); s.Ours = false })}},
		{name: "SIP", seen: []Seen{altered(outgoing("198.51.100.1:5060"), func(s *Seen) { answered(s); s.Protocol = conntrack.ProtocolUDP })}},
	} {
		h := hostOf(t, written)
		h.Flows = FlowEvidence{Seen: c.seen, Neighbors: c.neighbors, Probes: c.probes}
		if c.id == "" {
			if ids := found(Examine(h)); len(ids) > 0 {
				t.Errorf("%s: %v", c.name, ids)
			}
			continue
		}
		list := Examine(h)
		if len(list) == 0 || list[0].ID != c.id || list[0].Severity != c.severity || len(list[0].Mend) == 0 {
			t.Errorf("%s: want %s %s, and found %+v", c.name, c.severity, c.id, list)
			continue
		}
		if text := strings.Join(append(list[0].Evidence, list[0].Mend...), "\n"); !strings.Contains(text, c.says) {
			t.Errorf("%s: want %q in\n%s", c.name, c.says, text)
		}
	}
}

func TestTargetUnrouted(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{"192.168.1.10": "", "192.168.9.10": "route: 192.168.9.10 leaves by eth0 of zone wan", "198.51.100.9": "", `"fd00:9::1"`: "route: fd00:9::1 leaves by eth0"} {
		h := hostOf(t, strings.Replace(written, "to: 192.168.1.10}", "to: "+target+"}", 1))
		if want == "" {
			if ids := found(Examine(h)); len(ids) > 0 {
				t.Errorf("%s: %v", target, ids)
			}
			continue
		}
		if f := first(t, h, "target-unrouted", Broken); !strings.Contains(strings.Join(f.Evidence, "\n"), want) {
			t.Errorf("%s: %q", target, f.Evidence)
		}
	}
}

// What is left open in an entry is not known of an example either.
func TestPassages(t *testing.T) {
	t.Parallel()
	h := hostOf(t, written)
	var lines []string
	for _, x := range h.passages() {
		p := x.at("forward", false, false)
		lines = append(lines, strings.Join([]string{x.entry, p.In, p.Out, p.Source.String(), p.Destination.String()}, " "))
	}
	want := []string{
		"masquerade out eth1 eth0 192.168.1.2 invalid IP",
		"masquerade out eth1 eth0 fd00:1::2 invalid IP",
		"port_forward web eth0 eth1 invalid IP 192.168.1.10",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseFlow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"tcp 192.168.1.5 -> 203.0.113.9:443":        "tcp 192.168.1.5 -> 203.0.113.9:443",
		"  TCP 192.168.1.5:1024->203.0.113.9:443":   "tcp 192.168.1.5:1024 -> 203.0.113.9:443",
		"udp 10.0.0.1:5000 -> 192.0.2.1:53 in eth1": "udp 10.0.0.1:5000 -> 192.0.2.1:53 in eth1",
		"tcp [fd00:1::5]:99 -> [2001:db8::9]:443":   "tcp [fd00:1::5]:99 -> [2001:db8::9]:443",
		"tcp fd00:1::5 -> [2001:db8::9]:443":        "tcp fd00:1::5 -> [2001:db8::9]:443",
		"tcp [fd00:1::5] -> [2001:db8::9]:443":      "tcp fd00:1::5 -> [2001:db8::9]:443",
		"icmp 192.168.1.5 -> 203.0.113.9":           "icmp 192.168.1.5 -> 203.0.113.9",
		"icmp fd00:1::5 -> 2001:db8::9":             "icmpv6 fd00:1::5 -> 2001:db8::9",
		"gre 192.168.1.5 -> 203.0.113.9":            "gre 192.168.1.5 -> 203.0.113.9",
		"89 192.168.1.5 -> 203.0.113.9":             "89 192.168.1.5 -> 203.0.113.9",
		"udp gateway -> 192.0.2.1:53":               "udp gateway -> 192.0.2.1:53",
		"tcp ::ffff:192.168.1.5 -> 203.0.113.9:443": "tcp 192.168.1.5 -> 203.0.113.9:443",
		"":                                    "error: a flow is written",
		"tcp 192.168.1.5 203.0.113.9:443 now": "error: there is no -> between",
		"tcp 192.168.1.5 -> 203.0.113.9:443 eth1":      `error: "eth1" is too much`,
		"tcp 192.168.1.5 -> 203.0.113.9:0":             "error: the destination 203.0.113.9:0: there is no port 0",
		"tcp 192.168.1.5 -> 203.0.113.9:http":          `error: the destination 203.0.113.9:http: "http" is no port`,
		"tcp 192.168.1 -> 203.0.113.9:80":              "error: the source 192.168.1 is no IP address",
		"tcp 192.168.1.5 -> 2001:db8::9:xyz":           "error: the destination 2001:db8::9:xyz is no address; IPv6 with a port is written [",
		"icmpv6 192.168.1.5 -> 203.0.113.9":            "error: icmpv6 is of IPv6",
		"300 192.168.1.5 -> 203.0.113.9":               `error: "300" is no protocol`,
		"tcp 192.168.1.5 -> [2001:db8::9]:443 in eth1": "error: 192.168.1.5 and 2001:db8::9 are of two IP families",
	} {
		f, err := ParseFlow(text)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = f.String()
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want)) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
