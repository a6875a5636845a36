package lab

import "fmt"

func (t *Topology) wireInside(p *plan) error {
	if err := t.wireLAN(p); err != nil {
		return err
	}
	lan := [2]string{GatewayLAN, GatewayLANv6}
	err := configure(
		end{t.GW, p.names.LAN, [2]string{GatewayLAN + "/24", GatewayLANv6 + "/64"}, [2]string{}},
		end{t.LAN1, "eth0", [2]string{LAN1 + "/24", LAN1v6 + "/64"}, lan},
		end{t.LAN2, "eth0", [2]string{LAN2 + "/24", LAN2v6 + "/64"}, lan},
	)
	if err != nil {
		return err
	}
	if p.dmz {
		if err := connect(t.GW, p.names.DMZ, t.DMZ, "eth0"); err != nil {
			return err
		}
		err := configure(
			end{t.GW, p.names.DMZ, [2]string{GatewayDMZ + "/24", GatewayDMZv6 + "/64"}, [2]string{}},
			end{t.DMZ, "eth0", [2]string{DMZ1 + "/24", DMZ1v6 + "/64"}, [2]string{GatewayDMZ, GatewayDMZv6}},
		)
		if err != nil {
			return err
		}
	}
	if !p.guest {
		return nil
	}
	if err := connect(t.GW, p.names.Guest, t.Guest, "eth0"); err != nil {
		return err
	}
	return configure(
		end{t.GW, p.names.Guest, [2]string{GatewayGuest + "/24", GatewayGuestv6 + "/64"}, [2]string{}},
		end{t.Guest, "eth0", [2]string{Guest + "/24", Guestv6 + "/64"}, [2]string{GatewayGuest, GatewayGuestv6}},
	)
}

func (t *Topology) wireLAN(p *plan) error {
	if !p.bridged {
		_, err := t.newSwitch("lan", Port{t.GW, p.names.LAN}, Port{t.LAN1, "eth0"}, Port{t.LAN2, "eth0"})
		return err
	}
	if err := addBridge(t.GW, p.names.LAN); err != nil {
		return err
	}
	for i, host := range []*Host{t.LAN1, t.LAN2} {
		port := fmt.Sprintf("p%d", i+1)
		if err := connect(t.GW, port, host, "eth0"); err != nil {
			return err
		}
		if err := t.GW.enslave(port, p.names.LAN); err != nil {
			return err
		}
	}
	return nil
}

func (t *Topology) wireUplink(p *plan) error {
	_, err := t.newSwitch("uplink", Port{t.GW, p.names.Uplink}, Port{t.ISP, "eth0"}, Port{t.Neighbor, "eth0"})
	if err != nil {
		return err
	}
	isp := [2]string{ISP, ISPv6}
	err = configure(
		end{t.GW, p.names.Uplink, [2]string{GatewayUplink + "/24", GatewayUplinkv6 + "/64"}, isp},
		end{t.ISP, "eth0", [2]string{ISP + "/24", ISPv6 + "/64"}, [2]string{}},
		end{t.Neighbor, "eth0", [2]string{Neighbor + "/24", Neighborv6 + "/64"}, isp},
	)
	if err != nil {
		return err
	}
	return t.ISP.forward()
}

// The outer routers' addresses on the server's network, and between each other.
const (
	serverGateway, serverGatewayv6   = "198.51.100.1", "2001:db8:100::1"
	serverGateway2, serverGateway2v6 = "198.51.100.2", "2001:db8:100::2"
	transitISP, transitISPv6         = "100.64.0.1", "2001:db8:64::1"
	transitFar, transitFarv6         = "100.64.0.2", "2001:db8:64::2"
	serverNet, serverNetv6           = "198.51.100.0/24", "2001:db8:100::/64"
	uplinkNet, uplinkNetv6           = "203.0.113.0/24", "2001:db8:113::/64"
	uplink2Net, uplink2Netv6         = "192.0.2.0/24", "2001:db8:2::/64"
)

func (t *Topology) wireServer(p *plan) error {
	router, port := t.ISP, "eth1"
	if p.pathMTU > 0 {
		if err := t.wireTransit(p.pathMTU); err != nil {
			return err
		}
		router = t.Transit
	}
	var err error
	if p.uplink2 {
		_, err = t.newSwitch("server", Port{router, port}, Port{t.Server, "eth0"}, Port{t.ISP2, "eth1"})
	} else {
		err = connect(router, port, t.Server, "eth0")
	}
	if err != nil {
		return err
	}
	return configure(
		end{router, port, [2]string{serverGateway + "/24", serverGatewayv6 + "/64"}, [2]string{}},
		end{t.Server, "eth0", [2]string{Outside + "/24", Outsidev6 + "/64"}, [2]string{serverGateway, serverGatewayv6}},
	)
}

func (t *Topology) wireTransit(mtu int) error {
	if err := connect(t.ISP, "eth1", t.Transit, "eth0"); err != nil {
		return err
	}
	err := configure(
		end{t.ISP, "eth1", [2]string{transitISP + "/30", transitISPv6 + "/64"}, [2]string{}},
		end{t.Transit, "eth0", [2]string{transitFar + "/30", transitFarv6 + "/64"}, [2]string{transitISP, transitISPv6}},
	)
	if err != nil {
		return err
	}
	for _, side := range []Port{{t.ISP, "eth1"}, {t.Transit, "eth0"}} {
		link, err := side.Host.link(side.Name)
		if err != nil {
			return err
		}
		if err := side.Host.nl.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set path mtu: %w", err)
		}
	}
	if err := t.ISP.routes([2]string{serverNet, transitFar}, [2]string{serverNetv6, transitFarv6}); err != nil {
		return err
	}
	return t.Transit.forward()
}

func (t *Topology) wireUplink2(p *plan) error {
	if !p.uplink2 {
		return nil
	}
	if err := connect(t.GW, p.names.Uplink2, t.ISP2, "eth0"); err != nil {
		return err
	}
	err := configure(
		end{t.GW, p.names.Uplink2, [2]string{GatewayUplink2 + "/24", GatewayUplink2v6 + "/64"}, [2]string{}},
		end{t.ISP2, "eth0", [2]string{ISP2 + "/24", ISP2v6 + "/64"}, [2]string{}},
		end{t.ISP2, "eth1", [2]string{serverGateway2 + "/24", serverGateway2v6 + "/64"}, [2]string{}},
	)
	if err != nil {
		return err
	}
	if err := t.ISP2.forward(); err != nil {
		return err
	}
	// Each uplink's network is reached through its own ISP.
	err = t.Server.routes([2]string{uplink2Net, serverGateway2}, [2]string{uplink2Netv6, serverGateway2v6})
	if err != nil {
		return err
	}
	return t.ISP2.routes([2]string{uplinkNet, serverGateway}, [2]string{uplinkNetv6, serverGatewayv6})
}

func (t *Topology) routeInside(p *plan) error {
	if !p.inside {
		return nil
	}
	nets, netsv6 := []string{"192.168.1.0/24", "192.168.2.0/24", "10.99.0.0/24"}, []string{"fd00:1::/64", "fd00:2::/64", "fd00:99::/64"}
	for i := range nets {
		for _, h := range []*Host{t.ISP, t.Neighbor} {
			err := h.routes([2]string{nets[i], GatewayUplink}, [2]string{netsv6[i], GatewayUplinkv6})
			if err != nil {
				return err
			}
		}
		if t.ISP2 == nil {
			continue
		}
		err := t.ISP2.routes([2]string{nets[i], GatewayUplink2}, [2]string{netsv6[i], GatewayUplink2v6})
		if err != nil {
			return err
		}
	}
	return nil
}

// routes adds routes of IPv4, then of IPv6.
func (h *Host) routes(v4, v6 [2]string) error {
	pairs := [][2]string{v4}
	if HasIPv6() {
		pairs = append(pairs, v6)
	}
	for _, pair := range pairs {
		if err := h.route(pair[0], pair[1]); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return nil
}

// forward makes a router of a host.
func (h *Host) forward() error {
	return h.Do(func() error {
		for _, name := range forwarding() {
			if err := writeSysctl(name, "1"); err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
		}
		return nil
	})
}
