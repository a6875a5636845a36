//go:build linux

package nftrace

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// FuzzParse gives the parser attributes of any kind.
func FuzzParse(f *testing.F) {
	e := &nfnetlink.Encoder{}
	e.Uint32(unix.NFTA_TRACE_ID, 7)
	e.String(unix.NFTA_TRACE_TABLE, "t")
	at := e.Open(unix.NFTA_TRACE_VERDICT)
	e.Uint32(unix.NFTA_VERDICT_CODE, 0xfffffffd)
	e.String(unix.NFTA_VERDICT_CHAIN, "c")
	e.Close(at)
	e.Bytes(unix.NFTA_TRACE_NETWORK_HEADER, append([]byte{0x45}, make([]byte, 19)...))
	e.Bytes(unix.NFTA_TRACE_TRANSPORT_HEADER, []byte{0, 80})
	f.Add(e.Written())
	f.Fuzz(func(t *testing.T, attributes []byte) {
		m := nfnetlink.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE, Body: append([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, attributes...)}
		got, ok := parse(m)
		if !ok || got.Family != "ip" {
			t.Errorf("%+v, %v", got, ok)
		}
		if got.Header != got.Source.IsValid() {
			t.Errorf("%+v", got)
		}
	})
}

// TestParse reads what a kernel tells, attribute by attribute.
func TestParse(t *testing.T) {
	t.Parallel()
	e := &nfnetlink.Encoder{}
	e.Uint32(unix.NFTA_TRACE_ID, 0x1234)
	e.String(unix.NFTA_TRACE_TABLE, "filter")
	e.String(unix.NFTA_TRACE_CHAIN, "FORWARD")
	e.Uint64(unix.NFTA_TRACE_RULE_HANDLE, 9)
	e.Uint32(unix.NFTA_TRACE_TYPE, uint32(Return)) // of a rule that returns
	at := e.Open(unix.NFTA_TRACE_VERDICT)
	jump := int32(unix.NFT_JUMP)
	e.Uint32(unix.NFTA_VERDICT_CODE, uint32(jump))
	e.String(unix.NFTA_VERDICT_CHAIN, "docker")
	e.Close(at)
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, unix.IPPROTO_TCP
	copy(ip[12:], netip.MustParseAddr("10.0.0.1").AsSlice())
	copy(ip[16:], netip.MustParseAddr("10.0.0.2").AsSlice())
	e.Bytes(unix.NFTA_TRACE_NETWORK_HEADER, ip)
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, 4000)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[13] = 2
	e.Bytes(unix.NFTA_TRACE_TRANSPORT_HEADER, tcp)
	e.Uint32(unix.NFTA_TRACE_IIF, 3)
	e.Uint32(unix.NFTA_TRACE_OIF, 4)
	e.Uint32(unix.NFTA_TRACE_MARK, 0x10)
	m := nfnetlink.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE, Body: append([]byte{unix.NFPROTO_INET, 0, 0, 0}, e.Written()...)}
	want := Event{ID: 0x1234, Family: "inet", Table: "filter", Chain: "FORWARD", Handle: 9, Kind: Rule, Verdict: Jump, To: "docker", Mark: 0x10,
		Header: true, Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2"), SourcePort: 4000, DestinationPort: 80,
		Protocol: unix.IPPROTO_TCP, TCPFlags: 2, In: 3, Out: 4}
	if got, ok := parse(m); !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	m.Type = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	if _, ok := parse(m); ok {
		t.Error("another message is taken for a trace")
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	number := func(n int32) uint32 { return uint32(n) }
	for n, want := range map[uint32]Verdict{0: Drop, 1: Accept, 2: Stolen, 3: Queue, 3 | 5<<16: Queue, number(-1): Continue, number(-3): Jump, number(-4): Goto, number(-5): Returns, 9: "9"} {
		if got := code(n); got != want {
			t.Errorf("%#x is %s, want %s", n, got, want)
		}
	}
}
