package sysctl

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// advertise sends one router advertisement out of a link, to all nodes.
func advertise(t *testing.T, link string) {
	t.Helper()
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.IPV6_MULTICAST_HOPS, unix.IPV6_UNICAST_HOPS} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, 255); err != nil {
			t.Fatal(err)
		}
	}
	// RFC 4861 4.2: type 134, code 0, checksum by the kernel, hop limit 64, no
	// flags, lifetime 1800 s, reachable and retransmission time unspecified.
	message := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	to := &unix.SockaddrInet6{ZoneId: uint32(ifi.Index)}
	copy(to.Addr[:], net.IPv6linklocalallnodes)
	if err := unix.Sendto(fd, message, 0, to); err != nil {
		t.Fatal(err)
	}
}

func advertisedRoute(t *testing.T) bool {
	return strings.Contains(run(t, "ip", "-6", "route", "show", "default"), "proto ra")
}

// The default route that a router advertises must live through forwarding
// going on and off again, and does not when accept_ra stays 1.
func TestAdvertisedDefaultRouteSurvives(t *testing.T) {
	for _, c := range []struct {
		name   string
		links  []string
		stays  bool
		before func(t *testing.T)
	}{
		{name: "told of the link", links: []string{"lan"}, stays: true},
		{name: "an interface forwarded already", links: []string{"lan"}, stays: true,
			before: func(t *testing.T) { set(t, "net/ipv6/conf/lo/forwarding", "1") }},
		{name: "not told: the kernel drops it, which is why", stays: false},
	} {
		t.Run(c.name, func(t *testing.T) {
			freshNetNS(t)
			if c.before != nil {
				c.before(t)
			}
			end := time.Now().Add(10 * time.Second)
			for !advertisedRoute(t) {
				if time.Now().After(end) {
					t.Fatalf("no default route:\n%s", run(t, "ip", "-6", "addr"))
				}
				if strings.Count(run(t, "ip", "-6", "addr", "show", "-tentative"), "fe80::") == 2 {
					advertise(t, "wan")
				}
				time.Sleep(50 * time.Millisecond)
			}
			done, err := Apply(plan(t, Forwarding{IPv6: true}, c.links...))
			if err != nil {
				t.Fatal(err)
			}
			if got := advertisedRoute(t); got != c.stays {
				t.Fatalf("with forwarding on the route is there: %v, want %v", got, c.stays)
			}
			if _, _, err := Restore(done); err != nil {
				t.Fatal(err)
			}
			if got := advertisedRoute(t); got != c.stays {
				t.Fatalf("with forwarding off again the route is there: %v, want %v", got, c.stays)
			}
		})
	}
}
