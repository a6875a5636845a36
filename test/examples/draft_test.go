package examples_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// draftedHosts are hosts that somebody types `ipmasq init` on: what the draft
// has to carry once it is applied, and what it must not let in.
func draftedHosts() map[string]func(t *testing.T) (gateway *lab.Host, hints string, traffic func(t *testing.T)) {
	type result = func(t *testing.T)
	return map[string]func(t *testing.T) (*lab.Host, string, result){
		"router": func(t *testing.T) (*lab.Host, string, result) {
			l := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest(), lab.InsideRoutes())
			serve(l.Server, l.LAN1)
			l.GW.ServeTCP(":22")
			return l.GW, "", func(t *testing.T) {
				for _, family := range [][3]string{{lab.Outside, lab.GatewayUplink, lab.LAN1}, {"[" + lab.Outsidev6 + "]", lab.GatewayUplinkv6, "[" + lab.LAN1v6 + "]"}} {
					sees(t, reach(t, l.LAN1, family[0]+":80"), "server", family[1])
					fails(t, lab.IsTimeout, l.Server, family[2]+":80")
				}
				fails(t, lab.IsTimeout, l.Neighbor, lab.LAN1+":80")
				// The host's own ports are as they were.
				sees(t, reach(t, l.Server, lab.GatewayUplink+":22"), "gw", lab.Outside)
				sees(t, reach(t, l.LAN1, lab.GatewayLAN+":22"), "gw", lab.LAN1)
			}
		},
		"line": func(t *testing.T) (*lab.Host, string, result) {
			lab.Require(t, lab.Tun(t))
			l := lab.New(t)
			gw, isp, lan := l.Host("gw"), l.Host("isp"), l.Host("lan")
			l.Link(gw, "eth1", lan, "eth0")
			gw.Addr("eth1", "192.168.7.1/24")
			lan.Addr("eth0", "192.168.7.10/24")
			lan.Route("default", "192.168.7.1")
			line(t, gw, "ppp0", isp, "ppp0")
			gw.Addr("ppp0", "203.0.113.77/32")
			gw.Route("default", "dev ppp0")
			isp.Addr("ppp0", "203.0.113.1/32")
			isp.Route("203.0.113.77/32", "dev ppp0")
			isp.Route("192.168.7.0/24", "dev ppp0")
			serve(isp, lan)
			return gw, "", func(t *testing.T) {
				sees(t, reach(t, lan, "203.0.113.1:80"), "isp", "203.0.113.77")
				fails(t, lab.IsTimeout, isp, "192.168.7.10:80")
			}
		},
		"two-uplinks": func(t *testing.T) (*lab.Host, string, result) {
			l := lab.Gateway(t, lab.SecondUplink(), lab.WithoutDMZ(), lab.WithoutGuest(), lab.InsideRoutes())
			l.GW.Route("default", lab.ISP2+" metric 200")
			l.GW.Sysctl("net.ipv4.conf.all.rp_filter", "1")
			serve(l.Server, l.LAN1)
			l.GW.ServeTCP(":22")
			// What has the other provider's addresses is dropped.
			l.ISP.Run(t, "nft", "add table ip ingress; add chain ip ingress forward { type filter hook forward priority 0; }; "+
				"add rule ip ingress forward iifname eth0 ip saddr != 203.0.113.0/24 drop")
			return l.GW, "", func(t *testing.T) {
				sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
				for _, uplink := range []string{lab.GatewayUplink, lab.GatewayUplink2} {
					sees(t, reach(t, l.Server, uplink+":22"), "gw", lab.Outside)
				}
				fails(t, lab.IsTimeout, l.Server, lab.LAN1+":80")
				l.GW.DelRoute("default", lab.ISP)
				sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink2)
			}
		},
		"vm-host": func(t *testing.T) (*lab.Host, string, result) {
			l := lab.Gateway(t, lab.Interfaces(lab.Names{Uplink: "eno1", LAN: "virbr0", Guest: "docker0"}), lab.BridgedLAN(), lab.WithoutDMZ(), lab.InsideRoutes())
			serve(l.Server, l.LAN1, l.LAN2, l.Guest)
			return l.GW, "", func(t *testing.T) {
				sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
				sees(t, reach(t, l.LAN1, lab.LAN2+":80"), "lan2", lab.LAN1)
				fails(t, lab.IsTimeout, l.Server, lab.LAN1+":80")
				// A container is its engine's affair, in both directions.
				sees(t, reach(t, l.Guest, lab.Outside+":80"), "server", lab.Guest)
				sees(t, reach(t, l.Server, lab.Guest+":80"), "guest", lab.Outside)
			}
		},
		"one-armed": func(t *testing.T) (*lab.Host, string, result) {
			l := lab.New(t)
			instance, lan, router, outside := l.Host("instance"), l.Host("lan"), l.Host("router"), l.Host("outside")
			l.Switch("net", lab.Port{Host: instance, Name: "eth0"}, lab.Port{Host: lan, Name: "eth0"}, lab.Port{Host: router, Name: "eth0"})
			l.Link(router, "eth1", outside, "eth0")
			instance.Addr("eth0", "192.168.1.2/24")
			instance.Route("default", "192.168.1.1")
			lan.Addr("eth0", "192.168.1.10/24")
			lan.Route("default", "192.168.1.2")
			router.Sysctl("net.ipv4.ip_forward", "1")
			router.Addr("eth0", "192.168.1.1/24")
			router.Addr("eth1", "198.51.100.1/24")
			router.Route("192.168.1.10/32", "192.168.1.2")
			outside.Addr("eth0", "198.51.100.9/24")
			outside.Route("default", "198.51.100.1")
			serve(outside, lan)
			instance.ServeTCP(":22")
			return instance, "ipmasq: hint: there is one interface, eth0: hosts of its network send through this host if their default route leads here; " +
					"in a cloud, turn off its check of source and destination for this host\n", func(t *testing.T) {
					sees(t, reach(t, lan, "198.51.100.9:80"), "outside", "192.168.1.2")
					fails(t, lab.IsTimeout, outside, "192.168.1.10:80")
					sees(t, reach(t, outside, "192.168.1.2:22"), "instance", "198.51.100.9")
				}
		},
		"dual-stack": dualStackHost(false),
		"delegated":  dualStackHost(true),
	}
}

// dualStackHost has IPv6 hosts with addresses of their own; advertised: by a
// router's default route.
func dualStackHost(advertised bool) func(t *testing.T) (*lab.Host, string, func(t *testing.T)) {
	return func(t *testing.T) (*lab.Host, string, func(t *testing.T)) {
		const net, lan1, gw = "2001:db8:1::/64", "2001:db8:1::10", "2001:db8:1::1"
		l := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest(), lab.InsideRoutes())
		l.GW.Addr("eth1", gw+"/64")
		move(l.LAN1, lab.LAN1v6+"/64", lan1+"/64", gw)
		l.ISP.Route(net, lab.GatewayUplinkv6)
		if advertised {
			lab.Require(t, lab.Binary("ip"))
			l.GW.DelRoute("default", lab.ISPv6)
			l.GW.Run(t, "ip", "-6", "route", "add", "default", "via", lab.ISPv6, "dev", "eth0", "proto", "ra")
		}
		serve(l.Server, l.LAN1)
		return l.GW, "", func(t *testing.T) {
			sees(t, reach(t, l.LAN1, lab.Outside+":80"), "server", lab.GatewayUplink)
			sees(t, reach(t, l.LAN1, "["+lab.Outsidev6+"]:80"), "server", lan1)
			fails(t, lab.IsTimeout, l.Server, lab.LAN1+":80")
			fails(t, lab.IsTimeout, l.Server, "["+lan1+"]:80")
			if advertised {
				// Another prefix comes, and nothing has to be applied again.
				const lan1, gw = "2001:db8:7::10", "2001:db8:7::1"
				l.GW.Addr("eth1", gw+"/64")
				l.LAN1.Addr("eth0", lan1+"/64")
				l.ISP.Route("2001:db8:7::/64", lab.GatewayUplinkv6)
				sees(t, reach(t, l.LAN1, "["+lab.Outsidev6+"]:80", lab.From(lan1)), "server", lan1)
			}
		}
	}
}

func serve(hosts ...*lab.Host) {
	for _, h := range hosts {
		h.ServeTCP(":80")
	}
}

// line joins two hosts by a tun device on each: a link with two ends and no
// addresses of hardware, as PPP has it.
func line(t *testing.T, a *lab.Host, aName string, b *lab.Host, bName string) {
	t.Helper()
	open := func(h *lab.Host, name string) *os.File {
		var file *os.File
		err := h.Do(func() error {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			request, err := unix.NewIfreq(name)
			if err == nil {
				request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
			}
			if err != nil {
				unix.Close(fd)
				return err
			}
			file = os.NewFile(uintptr(fd), name)
			return nil
		})
		if err != nil {
			t.Fatalf("make the tun device %s: %v", name, err)
		}
		h.Up(name)
		t.Cleanup(func() { file.Close() })
		return file
	}
	ends := [2]*os.File{open(a, aName), open(b, bName)}
	for i := range ends {
		go func() { // it ends when the device is closed
			packet := make([]byte, 65536)
			for {
				n, err := ends[i].Read(packet)
				if err != nil {
					return
				}
				_, _ = ends[1-i].Write(packet[:n])
			}
		}()
	}
}

// TestDrafts has init write a policy on real hosts, and applies it.
func TestDrafts(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	for name, build := range draftedHosts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, hints, traffic := build(t)
			c := newCLI(t, lab.New(t), gateway)
			path := filepath.Join(t.TempDir(), "policy.yaml")
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			command := c.host.Command(ctx, c.program, "init", "--out", path)
			var stderr strings.Builder
			command.Stderr = &stderr
			if err := command.Run(); err != nil {
				t.Fatalf("ipmasq init: %v\n%s", err, &stderr)
			}
			if stderr.String() != hints {
				t.Errorf("init says:\n%s\nwant:\n%s", &stderr, hints)
			}
			c.run(t, 0, "check", path)
			c.run(t, 0, "apply", path)
			traffic(t)
			if out := c.run(t, 0, "delete"); out == "" {
				t.Error("delete says nothing")
			}
			clean(t, c)
			if t.Failed() {
				text, _ := os.ReadFile(path)
				t.Logf("%s", text)
			}
		})
	}
}
