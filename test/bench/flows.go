package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/test/flood"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// The hosts of the table of flows that are asked for, by their share of it.
const (
	fewHost  = "192.168.77.1" // a thousand
	manyHost = "192.168.88.1" // 50,000
)

// flows measures what is done with a table of a million flows, beside
// conntrack(8). Half of them are those of a masquerade, half are not ours.
func (b *bench) flows() {
	b.tb.Helper()
	h := b.host()
	h.Stub("eth0")
	h.Stub("eth1")
	h.Addr("eth0", "203.0.113.2/24")
	h.Addr("eth1", "192.168.0.1/16")
	h.Route("default", "203.0.113.1")
	policy := b.write("flows.yaml", []byte("version: 1\nzones:\n  lan: {interfaces: eth1, networks: 192.168.0.0/16}\n  wan: {interfaces: eth0}\n"+
		"masquerade:\n  - {from: lan, to: wan}\n"))
	b.ipmasqOn(h, "apply", policy)
	n := b.room(1_000_000)
	many := n / 20
	fill := func(first, last int) {
		if err := h.Do(func() error {
			return flood.Fill(last-first, func(i int, e *flood.Entry) { flowEntry(first+i, many, e) })
		}); err != nil {
			b.tb.Fatalf("bench: fill the table: %v", err)
		}
	}
	fill(0, n)
	var floor, list, listed, stream, filtered, ours, count, status, statusCPU, statusFlows, cut, killed sample
	var listMemory, streamMemory, statusMemory, flowsMemory float64
	connections := func(args ...string) (wall, memory float64) {
		wall, memory, _ = b.run(h, append([]string{b.ipmasq, "connections", args[0], "--state-dir", b.stateDir(h)}, args[1:]...)...)
		return wall, memory
	}
	for range b.rounds {
		wall, memory, _ := b.run(h, "conntrack", "-L")
		list, listMemory = append(list, wall), max(listMemory, memory)
		wall, _, _ = b.run(h, "conntrack", "-L", "-o", "extended")
		listed = append(listed, wall)
		floor = append(floor, b.dumped(h))
		wall, memory = connections("list", "-o", "json", "--stream")
		stream, streamMemory = append(stream, wall), max(streamMemory, memory)

		wall, _, _ = b.run(h, "conntrack", "-L", "-s", fewHost)
		filtered = append(filtered, wall)
		wall, _ = connections("list", "--source", fewHost)
		ours = append(ours, wall)

		wall, _, _ = b.run(h, "conntrack", "-C")
		count = append(count, wall)
		wall, memory, _ = b.ipmasqOn(h, "status")
		status, statusMemory, statusCPU = append(status, wall), max(statusMemory, memory), append(statusCPU, b.cpu)
		wall, memory, _ = b.ipmasqOn(h, "status", "--flows")
		statusFlows, flowsMemory = append(statusFlows, wall), max(flowsMemory, memory)

		wall, _, _ = b.run(h, "conntrack", "-D", "-s", manyHost)
		cut = append(cut, wall)
		fill(0, many)
		wall, _ = connections("kill", "--source", manyHost, "--yes")
		killed = append(killed, wall)
		fill(0, many)
	}
	b.run(h, "conntrack", "-F")
	fill(0, engine.CountedAtOnce)
	var small, smallCount, smallCPU sample
	for range b.rounds {
		wall, _, _ := b.run(h, "conntrack", "-L")
		smallCount = append(smallCount, wall)
		wall, _, _ = b.ipmasqOn(h, "status")
		small, smallCPU = append(small, wall), append(smallCPU, b.cpu)
	}
	b.run(h, "conntrack", "-F")
	t := newTable(fmt.Sprintf("a table of %d flows, half of them of a masquerade, beside conntrack(8)", n), "what", "conntrack", "ipmasq", "", "memory")
	mb := func(v float64) string { return fmt.Sprintf("%.0f MB", v) }
	t.row("list all, as JSON", ms(list.median()), ms(stream.median()), target(stream.over(list), 0.5), fmt.Sprintf("%s (%s), target 32 MB", mb(streamMemory), mb(listMemory)))
	t.row("the same, beside -o extended", ms(listed.median()), "", fmt.Sprintf("x%.2f", stream.over(listed)))
	t.row("the same, beside the kernel's own work in one walk", ms(floor.median()), "", fmt.Sprintf("x%.2f", stream.over(floor)))
	t.row("list 1000 by source", ms(filtered.median()), ms(ours.median()), target(ours.over(filtered), 0.2))
	t.row(fmt.Sprintf("cut %d by source", many), ms(cut.median()), ms(killed.median()), target(killed.over(cut), 0.2))
	t.row("status, beside -C", ms(count.median()), ms(status.median()), bound(status.median(), 50)+", CPU "+ms(statusCPU.median()), mb(statusMemory))
	t.row("status --flows, beside -L", ms(list.median()), ms(statusFlows.median()), fmt.Sprintf("x%.2f", statusFlows.over(list)), mb(flowsMemory))
	t.row(fmt.Sprintf("status of %d, beside -L", engine.CountedAtOnce), ms(smallCount.median()), ms(small.median()), bound(small.median(), 50)+", CPU "+ms(smallCPU.median()))
	t.Flush()
}

// dumped is how long the kernel takes to hand the table over in one walk, to a
// reader that looks at nothing.
func (b *bench) dumped(h *lab.Host) float64 {
	const get = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	start := time.Now()
	err := h.Do(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Start(get, unix.AF_UNSPEC, nil); err != nil {
			return err
		}
		room := make([]byte, nfnetlink.DatagramSize)
		for {
			if got, err := c.Receive(room); err != nil || len(got) == 0 {
				return err
			}
		}
	})
	if err != nil {
		b.tb.Fatalf("bench: dump the table: %v", err)
	}
	return float64(time.Since(start).Microseconds()) / 1000
}

// bound tells a time in ms, the target, and whether it was met.
func bound(v, limit float64) string {
	verdict := "met"
	if v > limit {
		verdict = "MISSED"
	}
	return fmt.Sprintf("target %s: %s", ms(limit), verdict)
}

// room is how many flows fit of those that are wanted. The size of the table is
// the machine's, and not the bench's to change.
func (b *bench) room(want int) int {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		b.tb.Fatalf("bench: %v", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.tb.Fatalf("bench: nf_conntrack_max: %v", err)
	}
	if fits := limit / 20 * 19; fits < want {
		fmt.Printf("\nnf_conntrack_max is %d, so that the table gets %d flows and not %d; for all of them: sysctl -w net.netfilter.nf_conntrack_max=%d\n",
			limit, fits, want, want/19*20+20)
		return fits
	}
	return want
}

// flowEntry is flow i of the table. The first are those of the host with many,
// then come a thousand of another one.
func flowEntry(i, many int, e *flood.Entry) {
	const few = 1000
	// Port and destination are those of no other flow, so that the kernel need
	// not look for another outside port.
	port := uint16(1024 + i%1024)
	e.Protocol = unix.IPPROTO_TCP
	if i%4 == 0 {
		e.Protocol = unix.IPPROTO_UDP
	}
	e.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 18), byte(i >> 10)}), 443)
	switch {
	case i < many:
		e.Source = netip.AddrPortFrom(netip.MustParseAddr(manyHost), port)
	case i < many+few:
		e.Source = netip.AddrPortFrom(netip.MustParseAddr(fewHost), port)
	case i%2 == 0:
		e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(1 + i>>8%60), byte(1 + i%250)}), port)
	default: // what another program forwards
		e.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), port)
		return
	}
	e.SNAT = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.2"), 0)
}
