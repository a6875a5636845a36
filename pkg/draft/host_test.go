package draft_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/draft"
	"github.com/ipmasq/ipmasq/pkg/link"
)

// readHost reads a host that is written down, a line for each thing:
//
//	link NAME KIND [p2p] [down] [master NAME] [ADDRESS...]
//	default NAME [via ADDRESS] [metric N] [table N] [boot|dhcp|ra|static]
//	connected NAME PREFIX
//	neighbor NAME ADDRESS
//	session CLIENT SERVER
func readHost(t testing.TB, path string) draft.Host {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var h draft.Host
	for number, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if err := addTo(&h, fields); err != nil {
			t.Fatalf("%s:%d: %v", path, number+1, err)
		}
	}
	slices.SortStableFunc(h.Defaults, func(a, b link.DefaultRoute) int {
		if a.Family != b.Family {
			return int(a.Family) - int(b.Family)
		}
		return int(a.Metric) - int(b.Metric)
	})
	return h
}

func addTo(h *draft.Host, fields []string) error {
	what, rest := fields[0], fields[1:]
	switch what {
	case "link":
		l := link.Link{Name: rest[0], Kind: rest[1], Index: len(h.Links) + 1, Up: true, Carrier: true}
		for i := 2; i < len(rest); i++ {
			switch rest[i] {
			case "p2p":
				l.PointToPoint = true
			case "down":
				l.Up, l.Carrier = false, false
			case "master":
				i++
				l.Master = rest[i]
			default:
				p, err := netip.ParsePrefix(rest[i])
				if err != nil {
					return err
				}
				l.Addresses = append(l.Addresses, link.Address{Prefix: p})
			}
		}
		h.Links = append(h.Links, l)
	case "default":
		r := link.DefaultRoute{Family: link.IPv4, Interface: rest[0], Table: link.MainTable, Protocol: link.ProtocolBoot}
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case "via":
				i++
				a, err := netip.ParseAddr(rest[i])
				if err != nil {
					return err
				}
				r.Gateway = a
				if a.Is6() {
					r.Family = link.IPv6
				}
			case "ipv6":
				r.Family = link.IPv6
			case "metric", "table":
				n, err := strconv.Atoi(rest[i+1])
				if err != nil {
					return err
				}
				if rest[i] == "metric" {
					r.Metric = uint32(n)
				} else {
					r.Table = n
				}
				i++
			case "dhcp":
				r.Protocol = link.ProtocolDHCP
			case "ra":
				r.Protocol = link.ProtocolRA
			case "static":
				r.Protocol = link.ProtocolStatic
			default:
				return fmt.Errorf("what is %s?", rest[i])
			}
		}
		h.Defaults = append(h.Defaults, r)
	case "connected":
		p, err := netip.ParsePrefix(rest[1])
		if err != nil {
			return err
		}
		h.Connected = append(h.Connected, link.Route{To: p, Interface: rest[0], Table: link.MainTable})
	case "neighbor":
		a, err := netip.ParseAddr(rest[1])
		if err != nil {
			return err
		}
		h.Neighbors = append(h.Neighbors, link.Neighbor{Interface: rest[0], Address: a, State: link.NeighborReachable})
	case "session":
		client, err := netip.ParseAddrPort(rest[0])
		if err != nil {
			return err
		}
		server, err := netip.ParseAddrPort(rest[1])
		if err != nil {
			return err
		}
		h.Session = &draft.Session{Client: client, Server: server}
	default:
		return fmt.Errorf("what is %s?", what)
	}
	return nil
}

func hosts(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.host")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d hosts (%v)", len(paths), err)
	}
	return paths
}
