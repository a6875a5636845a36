package conntrack

import (
	"net/netip"
	"testing"
)

func TestFlowString(t *testing.T) {
	inside, outside, gateway := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.7")
	for _, c := range []struct {
		flow Flow
		want string
	}{
		{Flow{Protocol: 6, Status: StatusSNAT,
			Original: Tuple{Source: inside, SourcePort: 4000, Destination: outside, DestinationPort: 443},
			Reply:    Tuple{Source: outside, SourcePort: 443, Destination: gateway, DestinationPort: 4000}},
			"tcp 192.168.1.10:4000 > 198.51.100.1:443 -> 203.0.113.7:4000 > 198.51.100.1:443"},
		{Flow{Protocol: 17,
			Original: Tuple{Source: netip.MustParseAddr("2001:db8::1"), SourcePort: 53, Destination: netip.MustParseAddr("2001:db8::2"), DestinationPort: 53}},
			"udp [2001:db8::1]:53 > [2001:db8::2]:53"},
		{Flow{Protocol: 1, Original: Tuple{Source: inside, Destination: outside, ICMPType: 8, ICMPID: 7}},
			"icmp 192.168.1.10 > 198.51.100.1"},
		{Flow{Protocol: 50, Original: Tuple{Source: inside, Destination: outside}}, "esp 192.168.1.10 > 198.51.100.1"},
	} {
		if got := c.flow.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestTranslation(t *testing.T) {
	for status, want := range map[Status][2]bool{
		0:                           {false, false},
		StatusSNAT | StatusAssured:  {true, false},
		StatusDNAT | StatusExpected: {false, true},
		StatusSNAT | StatusDNAT:     {true, true},
		1 << 7:                      {false, false}, // IPS_SRC_NAT_DONE says only that it was looked at
	} {
		if f := (Flow{Status: status}); f.SNAT() != want[0] || f.DNAT() != want[1] {
			t.Errorf("status %b: SNAT %v, DNAT %v", status, f.SNAT(), f.DNAT())
		}
	}
}

// Every command shows where a flow is in its life by the same words.
func TestStages(t *testing.T) {
	for _, c := range []struct {
		flow            Flow
		protocol, stage string
	}{
		{Flow{Protocol: ProtocolTCP, State: TCPTimeWait}, "time_wait", "time_wait"},
		{Flow{Protocol: ProtocolTCP, State: 77, Status: StatusAssured}, "77", "77"},
		{Flow{Protocol: ProtocolSCTP, State: 4}, "established", "established"},
		{Flow{Protocol: 17}, "", "unreplied"},
		{Flow{Protocol: 17, Status: StatusSeenReply}, "", "replied"},
		{Flow{Protocol: 1, Status: StatusSeenReply | StatusAssured}, "", "assured"},
	} {
		if protocol, stage := c.flow.ProtocolState(), c.flow.Stage(); protocol != c.protocol || stage != c.stage {
			t.Errorf("protocol %d, state %d, status %b: %q and %q, want %q and %q", c.flow.Protocol, c.flow.State, c.flow.Status, protocol, stage, c.protocol, c.stage)
		}
	}
	if names := TCPStates(); names[TCPSynSent2] != "syn_sent2" || len(names) != int(TCPSynSent2)+1 {
		t.Errorf("the states of TCP are %v", names)
	}
}
