package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Of the packets a second, one in twenty opens a flow; the others are of the open flow and of the forbidden one, half
// and half.
const (
	freshShare = 20
	minRate    = 2000

	openPort, freshPort = 7000, 7001

	dialEvery = 25 * time.Millisecond
	// A connection whose first packet was lost is open after a second, when the kernel sends it again.
	dialPatience = 2500 * time.Millisecond
)

// traffic is what goes through the gateway, and what watches it.
type traffic struct {
	g      *gateway
	rate   int
	cancel context.CancelFunc
	group  sync.WaitGroup
	queues int // packets that the CPUs' queues had no room for, before

	open, fresh, forbidden    *lab.Load
	openArrived, freshArrived *numbers
	captures                  []*lab.Capture
	passed, leaked            *lab.Capture

	transfer *transfer

	mu                   sync.Mutex
	dialed, late, failed int
}

// felt is what the traffic felt.
type felt struct {
	rate                 int
	sent, lost           int64 // of the open flow
	gap                  time.Duration
	leaked               int
	forbidden            int64
	passed               int
	fresh, freshLost     int64
	dialed, late, failed int
	cut                  int
	stall                time.Duration
	overrun              int // packets that the machine had no time for
}

// start starts the traffic. It opens the flow that is open.
func start(g *gateway, rate int) (*traffic, error) {
	t := &traffic{g: g, rate: rate, openArrived: &numbers{}, freshArrived: &numbers{}}
	if err := t.openFlow(); err != nil {
		return nil, err
	}
	outside := lab.SrcIn(lab.GatewayUplink + "/32")
	t.count(g.Server, lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(openPort), outside, t.openArrived.note))
	t.count(g.Server, lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(freshPort), outside, t.freshArrived.note))
	t.leaked = t.count(g.ISP, lab.All(lab.Incoming, lab.SrcIn("192.168.0.0/16")))
	t.passed = t.count(g.LAN2, lab.All(lab.Incoming, lab.IsUDP, lab.SrcIn(lab.Neighbor+"/32")))
	var err error
	if t.queues, err = overruns(); err != nil {
		return nil, err
	}
	if t.transfer, err = startTransfer(g); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	fresh := rate / freshShare
	datagram := func(src, dst string, from, to uint16) []byte {
		return lab.UDP{Header: lab.Between(src, dst), SrcPort: from, DstPort: to, Payload: make([]byte, 100)}.Bytes()
	}
	t.open = g.LAN1.StartSeries(ctx, "eth0", datagram(lab.LAN1, lab.Outside, openPort, openPort), (rate-fresh)/2, number)
	t.forbidden = g.Neighbor.StartSeries(ctx, "eth0", datagram(lab.Neighbor, lab.LAN2, 9, 9), (rate-fresh)/2, number)
	t.fresh = g.LAN2.StartSeries(ctx, "eth0", datagram(lab.LAN2, lab.Outside, 1024, freshPort), fresh, func(packet []byte, n int64) {
		binary.BigEndian.PutUint16(packet[udpAt:], uint16(1024+n%60000))
		number(packet, n)
	})
	t.dial(ctx, g.LAN2, lab.Outside+":80")
	t.dial(ctx, g.Neighbor, lab.GatewayUplink+":80")
	return t, nil
}

func (t *traffic) count(h *lab.Host, f lab.Filter) *lab.Capture {
	c := h.Count("eth0", f)
	t.captures = append(t.captures, c)
	return c
}

// openFlow sends a datagram that is answered, and keeps those that follow from being.
func (t *traffic) openFlow() error {
	g := t.g
	_, _ = g.Server.Try("nft", "delete", "table", "inet", "mute")
	server := g.Server.ServeUDP(fmt.Sprintf(":%d", openPort))
	_, err := g.LAN1.UDPExchange(fmt.Sprintf("%s:%d", lab.LAN1, openPort), fmt.Sprintf("%s:%d", lab.Outside, openPort), "hello", lab.Patience)
	server.Close()
	if err != nil {
		return fmt.Errorf("open a flow: %w", err)
	}
	const mute = "table inet mute {\n chain input {\n type filter hook input priority 0\n udp dport { %d, %d } drop\n }\n}\n"
	g.Server.Feed(g.t, fmt.Sprintf(mute, openPort, freshPort), "nft", "-f", "-")
	return nil
}

// dial opens a connection every now and then, each on its own.
func (t *traffic) dial(ctx context.Context, from *lab.Host, to string) {
	t.group.Go(func() {
		tick := time.NewTicker(dialEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				t.group.Go(func() { t.connect(from, to) })
			}
		}
	})
}

func (t *traffic) connect(from *lab.Host, to string) {
	c, err := from.DialTCP(dialPatience, to)
	late := false
	if err == nil {
		late = sentAgain(c)
		_ = c.Abort()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialed++
	switch {
	case err != nil:
		t.failed++
	case late:
		t.late++
	}
}

// sentAgain reports whether the client's kernel had to send a packet more than once.
func sentAgain(c *lab.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	if raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }) != nil || err != nil {
		return false
	}
	return info.Total_retrans > 0
}

// stop ends the traffic and counts.
func (t *traffic) stop() (felt, error) {
	f := felt{rate: t.rate}
	t.cancel()
	var err error
	for _, load := range []struct {
		load *lab.Load
		sent *int64
	}{{t.open, &f.sent}, {t.forbidden, &f.forbidden}, {t.fresh, &f.fresh}} {
		if *load.sent, err = load.load.Stop(); err != nil {
			return f, err
		}
	}
	t.group.Wait()
	f.cut, f.stall = t.transfer.stop()
	t.g.Settle()
	for _, c := range t.captures {
		c.Stop()
		f.overrun += c.Drops()
	}
	queues, err := overruns()
	if err != nil {
		return f, err
	}
	f.overrun += queues - t.queues
	var longest int64
	f.lost, longest = t.openArrived.missing(f.sent)
	f.gap = time.Duration(float64(longest) / float64(t.rate-t.rate/freshShare) * 2 * float64(time.Second))
	f.freshLost, _ = t.freshArrived.missing(f.fresh)
	f.leaked, f.passed = t.leaked.Count(), t.passed.Count()
	f.dialed, f.late, f.failed = t.dialed, t.late, t.failed
	return f, nil
}
