package oracle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
)

// Gateway is a namespace with links, and a second one that has the far ends of
// all. Nobody is there: frames come from packet sockets and go to them, and what
// the gateway sends needs no neighbour to be found. What is delivered to the
// gateway itself is told by rules of the oracle's own behind all others, and
// goes no further, so that no stack answers.
//
// It belongs to the goroutine that made it, whose thread stays on one processor:
// the kernel then carries each packet to its end in the order of sending.
type Gateway struct {
	t       lab.TB
	lab     *lab.Lab
	host    *lab.Host
	ns      *link.NetNS
	dir     string
	ct      *conntrack.Conn
	seen    *lab.NFLog
	links   map[string]*wire
	byFar   map[int]string // by the index of the far end
	receive int            // a socket for what comes out of the gateway
	send    int            // one for what goes in
	raw     [2]int         // for what the gateway itself sends, by family
	buffer  []byte
	variant string // of iptables; "" is nftables

	routes *link.Routes
	facts  compile.Facts
	tags   uint32 // how many flows it was sent
}

// wire is a link of the gateway.
type wire struct {
	far int              // index of the far end
	mac net.HardwareAddr // of the near end
}

// observer sees, behind all chains, what a packet's destination became, the mark
// that it leaves with, and what is delivered. The chain of input comes before the oracle's first rule that
// needs conntrack, so that it stands behind the point where conntrack keeps a
// flow.
const observer = `table inet oracle {
	chain delivered {
		type filter hook input priority 2147483647; policy accept;
		iifname "lo" log prefix "lo" group 99 drop
		log prefix "local" group 99 drop
	}
}
table inet oracle {
	chain led {
		type filter hook prerouting priority 2147483646; policy accept;
		ct status dnat log prefix "led" group 99
	}
	chain sent {
		type filter hook output priority 2147483646; policy accept;
		ct status dnat log prefix "led" group 99
	}
	chain marked {
		type filter hook postrouting priority 2147483646; policy accept;
		meta mark != 0 log prefix "marked" group 99
	}
}
`

const observerGroup = 99

// wired is a link with its addresses.
type wired struct {
	name      string
	addresses []string
}

// links are the gateway's, with their addresses.
var links = []wired{
	{"eth0", []string{"203.0.113.2/24", "2001:db8:113::2/64", "203.0.113.10/24"}},
	{"ppp0", []string{"198.51.100.2/24", "2001:db8:51::2/64"}},
	{"eth1", []string{"192.168.1.1/24", "fd00:1::1/64"}},
	{"eth2", []string{"192.168.2.1/24", "fd00:2::1/64"}},
	{"eth3", nil},
	{"br-0", []string{"10.9.0.1/16", "fd00:9::1/64"}},
	{"tun7", []string{"172.20.0.1/30"}},
}

// routes beside those of the links' own networks.
var routes = [][2]string{
	{"default", "203.0.113.1 dev eth0 metric 100"}, {"default", "2001:db8:113::1 dev eth0 metric 100"},
	{"default", "198.51.100.1 dev ppp0 metric 200"}, {"default", "2001:db8:51::1 dev ppp0 metric 200"},
	{"192.168.3.0/24", "dev eth3"}, {"fd00:3::/64", "dev eth3"},
	{"10.8.0.0/16", "192.168.2.254 dev eth2"}, {"fd00:8::/64", "fd00:2::254 dev eth2"},
	{"172.31.0.0/16", "unreachable"}, {"fd00:dead::/48", "unreachable"},
}

// NewGateway makes a gateway without a policy.
func NewGateway(t lab.TB) *Gateway {
	t.Helper()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if unix.SchedGetaffinity(0, &before) == nil {
		one.Set(pickCPU(&before))
		_ = unix.SchedSetaffinity(0, &one)
		t.Cleanup(func() { // of the same goroutine
			_ = unix.SchedSetaffinity(0, &before)
			runtime.UnlockOSThread()
		})
	}
	l := lab.New(t)
	g := &Gateway{t: t, lab: l, host: l.Host("gateway"), dir: l.Dir(), links: map[string]*wire{}, byFar: map[int]string{}, buffer: make([]byte, 1<<16)}
	far := l.Host("far")
	for _, s := range [][2]string{
		{"net.ipv4.ip_forward", "1"}, {"net.ipv6.conf.all.forwarding", "1"},
		{"net.ipv4.conf.all.send_redirects", "0"}, {"net.ipv4.conf.default.send_redirects", "0"},
		{"net.ipv4.icmp_ratemask", "0"},
		// Conntrack takes right checksums of UDP-Lite for wrong (udplite_error).
		{"net.netfilter.nf_conntrack_checksum", "0"},
		{"net.ipv6.conf.all.accept_ra", "0"},
	} {
		g.host.Sysctl(s[0], s[1])
	}
	far.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
	far.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	for i, x := range links {
		l.Link(g.host, x.name, far, x.name)
		mac := net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}
		g.must("address "+x.name, g.host.Do(func() error { return silence(x.name, mac) }))
		g.host.Addr(x.name, x.addresses...)
		w := &wire{mac: mac}
		g.must("find "+x.name, far.Do(func() error {
			n, err := netlink.LinkByName(x.name)
			if err == nil {
				w.far = n.Attrs().Index
			}
			return err
		}))
		g.links[x.name], g.byFar[w.far] = w, x.name
	}
	for _, r := range routes {
		g.host.Route(r[0], r[1])
	}
	g.host.Feed(t, observer, "nft", "-f", "-")
	g.seen = g.host.NFLog(observerGroup)
	g.must("open sockets", g.open(far))
	return g
}

func pickCPU(set *unix.CPUSet) int {
	first := -1
	n := int(gateways.Add(1))
	for cpu := range 1024 {
		if !set.IsSet(cpu) {
			continue
		}
		if first < 0 {
			first = cpu
		}
		if n--; n < 0 {
			return cpu
		}
	}
	return first
}

// silence gives a link an address that is always the same, and no neighbours
// that would have to be found.
func silence(name string, mac net.HardwareAddr) error {
	n, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetDown(n), netlink.LinkSetHardwareAddr(n, mac), netlink.LinkSetARPOff(n), netlink.LinkSetUp(n))
}

func (g *Gateway) open(far *lab.Host) (err error) {
	if g.ns, err = link.OpenNetNS(g.host.NetNS()); err != nil {
		return err
	}
	g.t.Cleanup(func() { _ = g.ns.Close() })
	var fds []int
	socket := func(domain, typ, protocol int) (fd int) {
		if err == nil {
			if fd, err = unix.Socket(domain, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol); err == nil {
				fds = append(fds, fd)
			}
		}
		return fd
	}
	g.t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	all := int(etherOrder(unix.ETH_P_ALL))
	err = errors.Join(far.Do(func() error {
		g.receive, g.send = socket(unix.AF_PACKET, unix.SOCK_RAW, all), socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		return err
	}), g.host.Do(func() error {
		g.raw = [2]int{socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW), socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)}
		if err == nil {
			g.ct, err = conntrack.Open()
		}
		return err
	}))
	if err != nil {
		return err
	}
	const ignoreOutgoing = 23 // PACKET_IGNORE_OUTGOING, since 4.20
	_ = unix.SetsockoptInt(g.receive, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return errors.Join(unix.SetsockoptInt(g.receive, unix.SOL_PACKET, ignoreOutgoing, 1),
		unix.SetsockoptInt(g.raw[0], unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
}

func etherOrder(n uint16) uint16 { return n<<8 | n>>8 }

func (g *Gateway) must(what string, err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("oracle: %s: %v", what, err)
	}
}

// bare is what the compiler knows of a host that has the gateway's links.
func (g *Gateway) bare() compile.Facts { return g.Facts() }

// Facts are the gateway's as the compiler takes them.
func (g *Gateway) Facts() compile.Facts {
	if g.routes == nil {
		g.read()
	}
	return g.facts
}

func (g *Gateway) read() {
	g.t.Helper()
	g.must("read routes", g.ns.Do(func() (err error) {
		g.routes, err = link.ReadRoutes()
		return err
	}))
	g.facts = engine.CompileFacts(g.routes.Facts)
}

// Apply puts a policy in force as `ipmasq apply` does, on a host that knows no
// flow.
func (g *Gateway) Apply(p *policy.Policy) error {
	g.forget()
	folder, err := state.Open(g.dir)
	if err != nil {
		return err
	}
	e := &engine.Engine{Backend: nftables.New(g.ns.Do), State: folder, NetNS: g.ns, KeepFlows: true}
	if g.variant != "" {
		if e.Backend, err = iptables.New(g.ns.Do, g.variant); err != nil {
			return err
		}
	}
	if _, err := e.Apply(context.Background(), p); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	g.read()
	return nil
}

// forget empties conntrack.
func (g *Gateway) forget() {
	g.t.Helper()
	_, err := g.ct.DeleteAll(g.flows())
	g.must("forget flows", err)
}

// flows are those that conntrack has.
func (g *Gateway) flows() (list []conntrack.Flow) {
	g.t.Helper()
	g.must("list flows", g.ct.List(&conntrack.Filter{}, func(f *conntrack.Flow) bool {
		list = append(list, *f)
		return true
	}))
	return list
}

// own are the addresses of the gateway.
func (g *Gateway) own() (list []netip.Addr) {
	for _, l := range g.routes.Facts.Links {
		for _, a := range l.Addresses {
			list = append(list, a.Prefix.Addr())
		}
	}
	return list
}

// loose says whether conntrack picks up TCP in the middle.
func (g *Gateway) loose() bool {
	return strings.TrimSpace(g.host.GetSysctl("net.netfilter.nf_conntrack_tcp_loose")) == "1"
}
