package packet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// probe is something that a host tries.
type probe struct {
	from  *lab.Host
	proto string // tcp, udp or ping
	addr  string
	port  int
}

func tcp(from *lab.Host, addr string, port int) probe { return probe{from, "tcp", addr, port} }
func udp(from *lab.Host, addr string, port int) probe { return probe{from, "udp", addr, port} }
func ping(from *lab.Host, addr string) probe          { return probe{from, "ping", addr, 0} }

func (p probe) String() string {
	return fmt.Sprintf("%s %s %s %d", p.from.Name(), p.proto, p.addr, p.port)
}

// answering has hosts answer on the ports of probes: TCP 22, 25, 80 and 81, UDP 53 and 123.
func answering(hosts ...*lab.Host) {
	for _, h := range hosts {
		for _, port := range []string{":22", ":25", ":80", ":81"} {
			h.ServeTCP(port)
		}
		for _, port := range []string{":53", ":123"} {
			h.ServeUDP(port)
		}
	}
}

// sees expects an answer, and that the other side sees an address. A ping
// expects the answer alone.
func (p probe) sees(t *testing.T, peer string) {
	t.Helper()
	switch p.proto {
	case "tcp":
		opens(t, p.from, at(p.addr, p.port), peer)
	case "udp":
		asks(t, p.from, at(p.addr, p.port), peer)
	default:
		pings(t, p.from, p.addr)
	}
}

// dropped expects silence.
func (p probe) dropped(t *testing.T) {
	t.Helper()
	switch p.proto {
	case "tcp":
		fails(t, p.from, at(p.addr, p.port), lab.IsTimeout)
	case "udp":
		failsUDP(t, p.from, at(p.addr, p.port), lab.IsTimeout)
	default:
		failsPing(t, p.from, p.addr)
	}
}

// drops is dropped for together.
func (p probe) drops(t *testing.T) func() { return func() { p.dropped(t) } }

// atoi reads the port of ":500".
func atoi(local string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(local, ":"))
	return n
}

// icmpOf is the ICMP error behind an error, or nil.
func icmpOf(err error) *lab.ICMP {
	var e *lab.NetError
	if errors.As(err, &e) {
		return e.ICMP
	}
	return nil
}
