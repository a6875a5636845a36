package flows_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
)

// FuzzJudge gives the judge tuples of any kind: of no address, of two families,
// of protocols without ports that have some. It must say something of each, and
// the same when it is asked again.
func FuzzJudge(f *testing.F) {
	f.Add([]byte("\x06\x00\xc0\xa8\x01\x0a\x08\x08\x08\x08\x10\x00\x01\xbb"), uint32(0))
	f.Add([]byte("\x11\x01"), uint32(0x10000000))
	var judges []*flows.Judge
	for _, text := range []string{home, sides + "forward: {default: accept}\n", sides + `one_to_one: {name: n, zone: wan, outside: 203.0.113.0/28, inside: 192.168.1.0/28, expose: all}
snat: {from: dmz, to: wan, addresses: [203.0.113.20, 203.0.113.22], distribution: round-robin}
redirect: {from: lan, protocol: tcp, to_port: 3128, local: true}
port_forward: {from: wan, protocol: udp, ports: 1-1000, to: [192.168.2.2, 192.168.2.3, "fd00:2::2"]}
`} {
		judges = append(judges, judgeOn(f, gateway(), text))
	}
	f.Fuzz(func(t *testing.T, raw []byte, mark uint32) {
		next := func(n int) []byte {
			out := make([]byte, n)
			raw = raw[copy(out, raw):]
			return out
		}
		near := []string{"192.168.1.10", "192.168.2.10", "203.0.113.1", "8.8.8.8", "127.0.0.1", "224.0.0.1", "255.255.255.255", "fd00:1::5", "2001:db8::1", "fe80::1", "ff02::1", "::1", "::", "0.0.0.0"}
		address := func() netip.Addr {
			switch kind := next(1)[0]; {
			case kind < 128:
				return netip.MustParseAddr(near[int(kind)%len(near)])
			case kind < 190:
				return netip.AddrFrom4([4]byte(next(4)))
			case kind < 240:
				return netip.AddrFrom16([16]byte(next(16)))
			}
			return netip.Addr{}
		}
		tuple := func() conntrack.Tuple {
			return conntrack.Tuple{
				Source: address(), Destination: address(), SourcePort: binary.BigEndian.Uint16(next(2)), DestinationPort: binary.BigEndian.Uint16(next(2)),
				ICMPType: next(1)[0],
			}
		}
		x := conntrack.Flow{Protocol: next(1)[0], Status: conntrack.Status(next(1)[0]), Original: tuple(), Reply: tuple(), Master: tuple(), MasterProtocol: next(1)[0], Mark: mark}
		for i, j := range judges {
			got := j.Judge(&x)
			if got != j.Judge(&x) {
				t.Errorf("policy %d: %s: judged differently when asked again", i, x)
			}
			if got.Fits == (got.Why != "") && !got.Foreign {
				t.Errorf("policy %d: %s: fits %v, and %q", i, x, got.Fits, got.Why)
			}
		}
	})
}
