package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Where things are in an IPv4 datagram without options.
const (
	udpAt     = 20
	payloadAt = udpAt + 8
)

// number writes a packet's number into its payload. Its checksum says that there is none (RFC 768).
func number(packet []byte, n int64) {
	packet[udpAt+6], packet[udpAt+7] = 0, 0
	binary.BigEndian.PutUint64(packet[payloadAt:], uint64(n))
}

// numbers are those that arrived.
type numbers struct{ seen []uint64 }

// note is a filter: of a packet that arrived before it chooses nothing.
func (n *numbers) note(p *lab.Packet) bool {
	if len(p.Payload) < 8 {
		return false
	}
	i := binary.BigEndian.Uint64(p.Payload)
	word, bit := i/64, uint64(1)<<(i%64)
	for uint64(len(n.seen)) <= word {
		n.seen = append(n.seen, make([]uint64, 1024)...)
	}
	first := n.seen[word]&bit == 0
	n.seen[word] |= bit
	return first
}

// missing counts those below sent that did not arrive, and the longest run of them.
func (n *numbers) missing(sent int64) (all, longest int64) {
	var run int64
	for i := range sent {
		if word := i / 64; word < int64(len(n.seen)) && n.seen[word]&(1<<(i%64)) != 0 {
			run = 0
			continue
		}
		all++
		run++
		longest = max(longest, run)
	}
	return all, longest
}

// overruns counts the packets that this machine's CPUs had no room for in their queues, ever
// (net/core/net-procfs.c). Every namespace shares the queues.
func overruns() (int, error) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	all := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %q", line)
		}
		n, err := strconv.ParseUint(fields[1], 16, 32)
		if err != nil {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %w", err)
		}
		all += int(n)
	}
	return all, nil
}
