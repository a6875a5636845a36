package packet

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// family holds the addresses of the topology in IPv4 or IPv6.
type family struct {
	name                          string
	lan1, lan2, dmz, guest        string
	gwLAN, gwDMZ, uplink, uplink2 string
	isp, isp2, neighbor, outside  string
	lanNet                        string
	headers                       int // of a packet without its transport
}

// families are what the tests run over: those that the kernel has.
func families() []family {
	all := []family{
		{
			"IPv4", lab.LAN1, lab.LAN2, lab.DMZ1, lab.Guest,
			lab.GatewayLAN, lab.GatewayDMZ, lab.GatewayUplink, lab.GatewayUplink2,
			lab.ISP, lab.ISP2, lab.Neighbor, lab.Outside,
			"192.168.1.0/24", 20,
		},
		{
			"IPv6", lab.LAN1v6, lab.LAN2v6, lab.DMZ1v6, lab.Guestv6,
			lab.GatewayLANv6, lab.GatewayDMZv6, lab.GatewayUplinkv6, lab.GatewayUplink2v6,
			lab.ISPv6, lab.ISP2v6, lab.Neighborv6, lab.Outsidev6,
			"fd00:1::/64", 40,
		},
	}
	if !lab.HasIPv6() {
		return all[:1]
	}
	return all
}

// each runs a test in both families, one after the other.
func each(t *testing.T, f func(t *testing.T, ip family)) {
	t.Helper()
	for _, ip := range families() {
		t.Run(ip.name, func(t *testing.T) { f(t, ip) })
	}
}

func (f family) v6() bool { return f.headers == 40 }

// tcp is a filter: what is left of the other family's connections still ends
// while this one's is looked at.
func (f family) tcp(p *lab.Packet) bool { return lab.IsTCP(p) && p.Src.Is6() == f.v6() }

// at joins an address and a port.
func at(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }

// The zones of most policies here: the whole of the inside in both families.
const zones = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: [eth0]}
`

// opens connects by TCP, and sees which address the server has to do with.
func opens(t *testing.T, h *lab.Host, remote, peer string, opts ...lab.DialOption) *lab.Conn {
	t.Helper()
	c, err := h.DialTCP(lab.Patience, remote, opts...)
	if err != nil {
		t.Errorf("%s opens %s: %v", h.Name(), remote, err)
		return nil
	}
	t.Cleanup(func() { c.Close() })
	if got := c.Seen().Peer.Addr().String(); got != peer {
		t.Errorf("%s opens %s: the server saw %s, want %s", h.Name(), remote, got, peer)
	}
	return c
}

// asks sends a datagram, and sees which address the server has to do with and
// that its answer comes back.
func asks(t *testing.T, h *lab.Host, remote, peer string) {
	t.Helper()
	seen, err := h.UDPExchange("", remote, "hello", lab.Patience)
	if err != nil {
		t.Errorf("%s asks %s: %v", h.Name(), remote, err)
		return
	}
	if got := seen.Peer.Addr().String(); got != peer {
		t.Errorf("%s asks %s: the server saw %s, want %s", h.Name(), remote, got, peer)
	}
}

// carries sends something there and back over a connection.
func carries(t *testing.T, c *lab.Conn) {
	t.Helper()
	if c == nil {
		return // and opens has said why
	}
	if err := c.Echo(lab.Patience, "there and back"); err != nil {
		t.Errorf("%s to %s: %v", c.Local(), c.Seen().Local, err)
	}
}

// together runs checks side by side: most of their time is spent on listening
// for what must not come.
func together(checks ...func()) {
	var group sync.WaitGroup
	for _, check := range checks {
		group.Go(check)
	}
	group.Wait()
}

// pings sends an echo request, and sees that the answer comes back.
func pings(t *testing.T, h *lab.Host, addr string) {
	t.Helper()
	if r, err := h.Ping(addr, lab.Patience, lab.PingOptions{}); err != nil || !r.Echo() || r.From.String() != addr {
		t.Errorf("%s pings %s: %v, %v", h.Name(), addr, r, err)
	}
}

// fails connects by TCP, which must fail in a way: lab.IsTimeout for what is
// dropped, lab.IsRefused for a reset, and so on.
func fails(t *testing.T, h *lab.Host, remote string, is func(error) bool, opts ...lab.DialOption) {
	t.Helper()
	within := patience(is)
	c, err := h.DialTCP(within, remote, opts...)
	if err == nil {
		c.Close()
	}
	if !is(err) {
		t.Errorf("%s opens %s: %v", h.Name(), remote, err)
	}
}

// patience is how long to wait for a failure: silence has no end of its own.
func patience(is func(error) bool) time.Duration {
	if is(context.DeadlineExceeded) {
		return lab.Silence
	}
	return lab.Patience
}

// failsUDP sends a datagram, which must fail as with fails.
func failsUDP(t *testing.T, h *lab.Host, remote string, is func(error) bool) {
	t.Helper()
	if _, err := h.UDPExchange("", remote, "hello", patience(is)); !is(err) {
		t.Errorf("%s asks %s: %v", h.Name(), remote, err)
	}
}

// failsPing sends an echo request to which no answer must come.
func failsPing(t *testing.T, h *lab.Host, addr string) {
	t.Helper()
	if r, err := h.Ping(addr, lab.Silence, lab.PingOptions{}); !lab.IsTimeout(err) {
		t.Errorf("%s pings %s: %v, %v", h.Name(), addr, r, err)
	}
}
