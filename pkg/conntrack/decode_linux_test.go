package conntrack

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// messageOfTCP is a message with all that the kernel tells of a connection.
func messageOfTCP() []byte {
	f := flow(ProtocolTCP, "192.168.1.10", "198.51.100.1")
	r := &nfnetlink.Requests{}
	e := &r.Encoder
	r.Message(unix.NFNL_SUBSYS_CTNETLINK<<8, 0, unix.AF_INET)
	encodeTuple(e, ctaTupleOriginal|unix.NLA_F_NESTED, f.Protocol, &f.Original)
	encodeTuple(e, ctaTupleReply|unix.NLA_F_NESTED, f.Protocol, &f.Reply) // without the flag within
	e.Uint32(ctaStatus, uint32(StatusAssured|StatusSNAT))
	e.Uint32(ctaTimeout, 431999)
	for i, kind := range []uint16{ctaCountersOrig, ctaCountersReply} {
		counters := e.Open(kind | unix.NLA_F_NESTED)
		e.Uint64(ctaCounterPackets, uint64(10+i))
		e.Uint64(ctaCounterBytes, 1<<40)
		e.Close(counters)
	}
	times := e.Open(ctaTimestamp | unix.NLA_F_NESTED)
	e.Uint64(ctaTimestampStart, 1_700_000_000_123_456_789)
	e.Close(times)
	info := e.Open(ctaProtocolInfo | unix.NLA_F_NESTED)
	tcp := e.Open(ctaProtocolInfoTCP | unix.NLA_F_NESTED)
	e.Uint8(ctaInfoState, uint8(TCPTimeWait))
	e.Close(tcp)
	e.Close(info)
	help := e.Open(ctaHelp | unix.NLA_F_NESTED)
	e.String(ctaHelpName, "ftp")
	e.Close(help)
	e.Uint32(ctaMark, 7)
	e.Uint16(ctaZone, 9)
	e.Uint32(ctaID, 0xdeadbeef)
	encodeTuple(e, ctaTupleMaster|unix.NLA_F_NESTED, ProtocolUDP, &f.Original)
	r.Message(0, 0, 0) // writes the length of the one before
	return e.Written()[:e.Len()-20]
}

// fromKernel is a message that Linux 6.18 sent, of TCP with a helper.
func fromKernel(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/fuzz/FuzzFlow/linux-6.18-04")
	if err != nil {
		t.Fatal(err)
	}
	_, quoted, _ := strings.Cut(strings.TrimSpace(string(text)), "[]byte(")
	message, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(message)
}

// What the kernel sends is read the short way.
func TestDecodeUsual(t *testing.T) {
	m, _, err := nfnetlink.First(fromKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
		if a.Type() != ctaTupleOriginal && a.Type() != ctaTupleReply {
			continue
		}
		var tuple Tuple
		if protocol, ok := decodeUsual(a.Bytes(), 4, ctaIPv4Source, &tuple); !ok || protocol != ProtocolTCP {
			t.Errorf("%d, %v: %x", protocol, ok, a.Bytes())
		}
	}
}

func TestDecode(t *testing.T) {
	m, rest, err := nfnetlink.First(messageOfTCP())
	if err != nil || len(rest) != 0 {
		t.Fatal(rest, err)
	}
	f := flow(ProtocolTCP, "192.168.1.10", "198.51.100.1")
	want := Flow{
		Family: IPv4, Protocol: ProtocolTCP, Original: f.Original, Reply: f.Reply,
		Status: StatusAssured | StatusSNAT, State: TCPTimeWait, Mark: 7, Timeout: 431999 * time.Second, Zone: 9, ID: 0xdeadbeef,
		Sent: Counter{10, 1 << 40}, Received: Counter{11, 1 << 40}, Counted: true,
		Start: time.Unix(1_700_000_000, 123_456_789), Master: f.Original, MasterProtocol: ProtocolUDP, Helper: "ftp",
	}
	var d decoder
	got := Flow{Helper: "left over", Counted: true, Stop: time.Now()}
	if !d.flow(m, &got) || got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { d.flow(m, &got) }); n != 0 {
		t.Errorf("%v allocations for a flow", n)
	}
}

// What the kernel sends is read with care: it may be cut anywhere, and say
// anything.
func FuzzFlow(f *testing.F) {
	whole := messageOfTCP()
	f.Add(whole)
	for n := 0; n < len(whole); n += 5 {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var d decoder
		for size := 0; len(p) > 0; {
			m, rest, err := nfnetlink.First(p)
			if err != nil {
				return
			}
			if size = len(p) - len(rest); size < unix.NLMSG_HDRLEN {
				t.Fatal("no progress")
			}
			p = rest
			var flow Flow
			if d.flow(m, &flow) {
				if flow.Family != IPv4 && flow.Family != IPv6 || !flow.Original.Source.IsValid() || !flow.Reply.Destination.IsValid() {
					t.Fatalf("a flow without addresses: %+v", flow)
				}
				if flow.Helper != "" && !bytes.Contains(m.Body, []byte(flow.Helper)) {
					t.Fatalf("the helper %q is nowhere in the message", flow.Helper)
				}
				_ = flow.String()
				if filter := (Filter{}); !filter.Match(&flow) {
					t.Fatalf("no filter leaves out %+v", flow)
				}
				// What was read can be asked for.
				encodeDelete(&nfnetlink.Requests{}, &flow)
			}
			for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
				var short, long Tuple
				if p, q := decodeTuple(a.Bytes(), &short), decodeAnyTuple(a.Bytes(), &long); p != q || short != long {
					t.Fatalf("%d %+v the short way, and %d %+v the long", p, short, q, long)
				}
			}
			var x Expectation
			if decodeExpectation(m, &x) && !x.Tuple.Source.IsValid() {
				t.Fatalf("an expectation without addresses: %+v", x)
			}
		}
	})
}
