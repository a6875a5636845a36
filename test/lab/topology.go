package lab

import (
	"errors"
	"fmt"
	"sync"
)

// The addresses of the standard topology, see [Gateway].
const (
	LAN1 = "192.168.1.10"
	LAN2 = "192.168.1.11"
	DMZ1 = "192.168.2.10"

	LAN1v6 = "fd00:1::10"
	LAN2v6 = "fd00:1::11"
	DMZ1v6 = "fd00:2::10"

	GatewayLAN     = "192.168.1.1"
	GatewayDMZ     = "192.168.2.1"
	GatewayUplink  = "203.0.113.2"
	GatewayUplink2 = "192.0.2.2"
	GatewayGuest   = "10.99.0.1"

	GatewayLANv6     = "fd00:1::1"
	GatewayDMZv6     = "fd00:2::1"
	GatewayUplinkv6  = "2001:db8:113::2"
	GatewayUplink2v6 = "2001:db8:2::2"
	GatewayGuestv6   = "fd00:99::1"

	ISP      = "203.0.113.1"
	ISP2     = "192.0.2.1"
	Neighbor = "203.0.113.3"
	Outside  = "198.51.100.9"
	Guest    = "10.99.0.10"

	ISPv6      = "2001:db8:113::1"
	ISP2v6     = "2001:db8:2::1"
	Neighborv6 = "2001:db8:113::3"
	Outsidev6  = "2001:db8:100::9"
	Guestv6    = "fd00:99::10"
)

// Topology is a gateway with networks around it. Every host's own interface is eth0.
type Topology struct {
	*Lab
	GW       *Host // forwards nothing yet
	LAN1     *Host
	LAN2     *Host
	DMZ      *Host // nil without it
	Neighbor *Host // next to the gateway on the uplink's network
	ISP      *Host // router, eth0 towards the gateway, eth1 towards Server
	ISP2     *Host // nil without [SecondUplink]
	Transit  *Host // nil without [PathMTU]: router between ISP (eth1) and Server, eth0 towards ISP
	Server   *Host // outside, behind ISP
	Guest    *Host // nil without it; on a network that belongs to no zone

	Names Names // the gateway's interfaces
}

// Names are the interfaces of the gateway.
type Names struct {
	Uplink, Uplink2, LAN, DMZ, Guest string
}

// plan is what the options make of a topology.
type plan struct {
	names                       Names
	dmz, guest, uplink2, inside bool
	bridged                     bool
	pathMTU                     int
}

// GatewayOption changes the standard topology.
type GatewayOption func(*plan)

// Interfaces renames the gateway's interfaces. Empty names stay as they are: eth0, eth3, eth1, eth2 and eth9.
func Interfaces(n Names) GatewayOption {
	return func(p *plan) {
		for _, pair := range [...]struct {
			to   *string
			name string
		}{
			{&p.names.Uplink, n.Uplink}, {&p.names.Uplink2, n.Uplink2}, {&p.names.LAN, n.LAN},
			{&p.names.DMZ, n.DMZ}, {&p.names.Guest, n.Guest},
		} {
			if pair.name != "" {
				*pair.to = pair.name
			}
		}
	}
}

// SecondUplink adds ISP2 and the gateway's eth3. The gateway's default route stays with the first; ISP2 reaches
// the same server, which answers either uplink by the way it came.
func SecondUplink() GatewayOption { return func(p *plan) { p.uplink2 = true } }

// WithoutDMZ leaves the second inner network out.
func WithoutDMZ() GatewayOption { return func(p *plan) { p.dmz = false } }

// WithoutGuest leaves the network without a zone out.
func WithoutGuest() GatewayOption { return func(p *plan) { p.guest = false } }

// InsideRoutes has the ISPs and Neighbor route to the inner networks, so that what is not translated gets an
// answer. Without it they call those networks unreachable.
func InsideRoutes() GatewayOption { return func(p *plan) { p.inside = true } }

// BridgedLAN makes the LAN interface a bridge on the gateway, with lan1 and lan2 on its ports p1 and p2, as
// br_netfilter needs it. Name it with [Interfaces].
func BridgedLAN() GatewayOption { return func(p *plan) { p.bridged = true } }

// PathMTU puts a router between ISP and Server, with links of this MTU between the two routers. Both ends of a
// connection keep 1500 and have to learn. Change it later with [Topology.SetPathMTU].
func PathMTU(n int) GatewayOption { return func(p *plan) { p.pathMTU = n } }

// Gateway builds the standard topology:
//
//	lan1 .10, lan2 .11  ── 192.168.1.0/24 fd00:1::/64 ─────────── .1 eth1 ┐
//	dmz1 .10            ── 192.168.2.0/24 fd00:2::/64 ─────────── .1 eth2 ┤ gw
//	guest .10           ── 10.99.0.0/24 fd00:99::/64 ──────────── .1 eth9 ┤
//	isp .1, neighbor .3 ── 203.0.113.0/24 2001:db8:113::/64 ───── .2 eth0 ┤
//	isp2 .1             ── 192.0.2.0/24 2001:db8:2::/64 ───────── .2 eth3 ┘
//	server .9           ── 198.51.100.0/24 2001:db8:100::/64 ── isp .1, isp2 .2
//
// Where the kernel was booted without IPv6, that is left out.
// Default routes are set, inside towards the gateway and from there to isp. Forwarding on the gateway is off,
// and no router outside has a route to the inner networks.
func Gateway(t TB, opts ...GatewayOption) *Topology {
	t.Helper()
	p := &plan{
		names: Names{Uplink: "eth0", Uplink2: "eth3", LAN: "eth1", DMZ: "eth2", Guest: "eth9"},
		dmz:   true, guest: true,
	}
	for _, opt := range opts {
		opt(p)
	}
	topo := &Topology{Lab: New(t), Names: p.names}
	if err := topo.build(p); err != nil {
		t.Fatalf("lab: topology: %v", err)
	}
	return topo
}

// SetPathMTU changes the MTU between ISP and Transit.
func (t *Topology) SetPathMTU(n int) {
	t.t.Helper()
	if t.Transit == nil {
		t.t.Fatalf("lab: topology: no PathMTU asked for")
	}
	t.ISP.SetMTU("eth1", n)
	t.Transit.SetMTU("eth0", n)
}

// Forwarding switches the gateway's forwarding of both families on or off.
func (t *Topology) Forwarding(on bool) {
	t.t.Helper()
	value := "0"
	if on {
		value = "1"
	}
	for _, name := range forwarding() {
		t.GW.Sysctl(name, value)
	}
}

func (t *Topology) build(p *plan) error {
	if err := t.addHosts(p); err != nil {
		return err
	}
	for _, step := range []func(*plan) error{t.wireInside, t.wireUplink, t.wireServer, t.wireUplink2, t.routeInside} {
		if err := step(p); err != nil {
			return err
		}
	}
	return t.ready()
}

// addHosts makes the namespaces side by side: most of the time goes there.
func (t *Topology) addHosts(p *plan) error {
	type member struct {
		to   **Host
		name string
		want bool
	}
	members := []member{
		{&t.GW, "gw", true}, {&t.LAN1, "lan1", true}, {&t.LAN2, "lan2", true}, {&t.DMZ, "dmz1", p.dmz},
		{&t.Neighbor, "neighbor", true}, {&t.ISP, "isp", true}, {&t.Server, "server", true},
		{&t.ISP2, "isp2", p.uplink2}, {&t.Transit, "transit", p.pathMTU > 0}, {&t.Guest, "guest", p.guest},
	}
	errs := make([]error, len(members)+1)
	var group sync.WaitGroup
	for i, m := range members {
		if !m.want {
			continue
		}
		group.Go(func() { *m.to, errs[i] = t.host(m.name) })
	}
	group.Go(func() { errs[len(members)] = t.ensureFabric() })
	group.Wait()
	return errors.Join(errs...)
}

// end is one interface with its addresses and default routes: of IPv4, then of
// IPv6.
type end struct {
	host     *Host
	name     string
	prefixes [2]string
	gateways [2]string
}

func (e end) configure() error {
	for i, prefix := range e.prefixes {
		if prefix == "" || i == 1 && !HasIPv6() {
			continue
		}
		if err := e.host.addr(e.name, prefix); err != nil {
			return fmt.Errorf("%s: %w", e.host.name, err)
		}
	}
	for i, gateway := range e.gateways {
		if gateway == "" || i == 1 && !HasIPv6() {
			continue
		}
		if err := e.host.route("default", gateway); err != nil {
			return fmt.Errorf("%s: %w", e.host.name, err)
		}
	}
	return nil
}

func configure(ends ...end) error {
	for _, e := range ends {
		if err := e.configure(); err != nil {
			return err
		}
	}
	return nil
}
