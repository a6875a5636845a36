package nftrace_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/nftrace"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestTrace has the kernel tell the way of packets that the host sends to itself,
// of those that are asked about alone, and leaves nothing behind.
func TestTrace(t *testing.T) {
	t.Parallel()
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	h := lab.New(t).Host("host")
	h.ServeUDP("127.0.0.1:53")
	h.ServeUDP("[::1]:53")
	h.Feed(t, `table inet mine {
	chain output {
		type filter hook output priority 0; policy accept;
		udp dport 53 goto questions comment "to questions"
		udp dport 54 drop
	}
	chain questions {
		meta mark set 7
		accept comment "a question"
	}
	chain input { type filter hook input priority 10; policy accept; }
}`, "nft", "-f", "-")
	before := h.Run(t, "nft", "list", "ruleset")
	for _, own := range []string{"127.0.0.1", "::1"} {
		a := netip.MustParseAddr(own)
		var tracer *nftrace.Tracer
		var chains *nftrace.Chains
		err := h.Do(func() (err error) {
			if tracer, err = nftrace.Start(nftrace.Packets{Own: true, Source: a, Destination: a, Protocol: 17, DestinationPort: 53}); err != nil {
				return err
			}
			chains, err = nftrace.Read()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if now := h.Run(t, "nft", "list", "ruleset"); !strings.Contains(now, tracer.TableName()) {
			t.Errorf("no table %s\n%s", tracer.TableName(), now)
		}
		other := netip.AddrPortFrom(a, 54).String()
		_, _ = h.UDPExchange("", other, "no", 10*time.Millisecond)
		if _, err := h.UDPExchange("", netip.AddrPortFrom(a, 53).String(), "hello", lab.Patience); err != nil {
			t.Fatal(err)
		}
		var told []string
		ids := map[uint32]bool{}
		timeout := time.After(lab.Patience)
	events:
		for {
			select {
			case e := <-tracer.Events:
				if e.Header && e.DestinationPort != 53 && e.SourcePort != 53 {
					t.Errorf("of another packet: %+v", e)
				}
				if e.Kind == nftrace.Return {
					continue
				}
				ids[e.ID] = true
				if e.Table != "mine" || e.Family != "inet" {
					t.Errorf("of another table: %+v", e)
				}
				text := e.Chain + " " + string(e.Verdict)
				if e.To != "" {
					text += " " + e.To
				}
				if r, ok := chains.Rule(&e); ok && r.Comment != "" {
					text += " " + r.Comment
				}
				if base, ok := chains.Base(&e); ok {
					text += " at " + base.Name
				}
				told = append(told, text)
				if e.Chain == "input" {
					break events
				}
			case <-timeout:
				t.Fatalf("told was only %q", told)
			}
		}
		want := "output goto questions to questions at output; questions continue; questions accept a question; input accept at input"
		if got := strings.Join(told, "; "); got != want {
			t.Errorf("%s: told was\n%s, want\n%s", own, got, want)
		}
		if len(ids) != 2 { // what comes in again is another packet to the kernel
			t.Errorf("the packets are %v", ids)
		}
		if list := chains.Comments("inet", "mine", "questions"); len(list) != 2 || list[1] != "a question" {
			t.Errorf("the comments are %q", list)
		}
		output, input := nftrace.Hook{Name: "output", Type: "filter"}, nftrace.Hook{Name: "input", Priority: -300, Type: "filter"}
		if !chains.Last("ip", output) || chains.Last("ip", input) {
			t.Error("the last chain of a hook is another")
		}
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
		if _, more := <-tracer.Events; more {
			for range tracer.Events { // what was told before
			}
		}
		if err := tracer.Err(); err != nil {
			t.Error(err)
		}
		if after := h.Run(t, "nft", "list", "ruleset"); after != before {
			t.Errorf("left behind is\n%s", after)
		}
	}
}
