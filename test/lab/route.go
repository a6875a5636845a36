package lab

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route adds or replaces a route. dst is a prefix or "default"; via is written as in `ip route`: an optional
// gateway or one of blackhole, unreachable and prohibit, then any of
//
//	dev NAME  src ADDR  table N  metric N  mtu N  onlink
//
// "default" is IPv4 unless the gateway is IPv6; write ::/0 for an IPv6 default route without one.
func (h *Host) Route(dst, via string) {
	h.lab.t.Helper()
	h.must(h.route(dst, via))
}

func (h *Host) route(dst, via string) error {
	r, err := h.parseRoute(dst, via)
	if err != nil {
		return err
	}
	if err := h.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s %s: %w", dst, via, err)
	}
	return nil
}

// DelRoute removes a route, written as for [Host.Route].
func (h *Host) DelRoute(dst, via string) {
	h.lab.t.Helper()
	r, err := h.parseRoute(dst, via)
	h.must(err)
	if err := h.nl.RouteDel(r); err != nil {
		h.must(fmt.Errorf("remove route %s %s: %w", dst, via, err))
	}
}

func (h *Host) parseRoute(dst, via string) (*netlink.Route, error) {
	r := &netlink.Route{}
	words := strings.Fields(via)
	fail := func(err error) (*netlink.Route, error) {
		return nil, fmt.Errorf("route %s %s: %w", dst, via, err)
	}
	v6 := false
	if len(words) > 0 {
		known := true
		switch words[0] {
		case "blackhole":
			r.Type = unix.RTN_BLACKHOLE
		case "unreachable":
			r.Type = unix.RTN_UNREACHABLE
		case "prohibit":
			r.Type = unix.RTN_PROHIBIT
		case "local":
			r.Type, r.Table, r.Scope = unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, netlink.SCOPE_HOST
		default:
			gw, err := netip.ParseAddr(words[0])
			if known = err == nil; known {
				r.Gw, v6 = gw.AsSlice(), gw.Is6()
			}
		}
		if known {
			words = words[1:]
		}
	}
	if dst == "default" {
		dst = "0.0.0.0/0"
		if v6 {
			dst = "::/0"
		}
	}
	prefix, err := parsePrefix(dst)
	if err != nil {
		return fail(err)
	}
	r.Dst = ipNet(prefix.Masked())
	for len(words) > 0 {
		if words[0] == "onlink" {
			r.Flags |= int(netlink.FLAG_ONLINK)
			words = words[1:]
			continue
		}
		if len(words) < 2 {
			return fail(fmt.Errorf("%s needs a value", words[0]))
		}
		if err := h.routeOption(r, words[0], words[1]); err != nil {
			return fail(err)
		}
		words = words[2:]
	}
	if r.Gw == nil && r.Type == 0 {
		r.Scope = netlink.SCOPE_LINK
	}
	return r, nil
}

func (h *Host) routeOption(r *netlink.Route, key, value string) error {
	switch key {
	case "dev":
		link, err := h.link(value)
		if err != nil {
			return err
		}
		r.LinkIndex = link.Attrs().Index
		return nil
	case "src":
		src, err := netip.ParseAddr(value)
		if err != nil {
			return err
		}
		r.Src = src.AsSlice()
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	switch key {
	case "table":
		r.Table = n
	case "metric":
		r.Priority = n
	case "mtu":
		r.MTU = n
	default:
		return fmt.Errorf("unknown word %q", key)
	}
	return nil
}

// parsePrefix takes a bare address as a prefix of one.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// Rule adds a policy routing rule, written as in `ip rule`: any of
//
//	from PREFIX  to PREFIX  iif NAME  oif NAME  fwmark N  priority N
//
// and then table N. Without a prefix in it the rule is IPv4.
func (h *Host) Rule(spec string) {
	h.lab.t.Helper()
	r, err := parseRule(spec)
	if err == nil {
		err = h.nl.RuleAdd(r)
	}
	if err != nil {
		h.must(fmt.Errorf("rule %s: %w", spec, err))
	}
}

func parseRule(spec string) (*netlink.Rule, error) {
	r := netlink.NewRule()
	r.Family = netlink.FAMILY_V4
	words := strings.Fields(spec)
	if len(words)%2 != 0 {
		return nil, fmt.Errorf("%s needs a value", words[len(words)-1])
	}
	for ; len(words) > 0; words = words[2:] {
		key, value := words[0], words[1]
		switch key {
		case "from", "to":
			p, err := parsePrefix(value)
			if err != nil {
				return nil, err
			}
			if p.Addr().Is6() {
				r.Family = netlink.FAMILY_V6
			}
			if key == "from" {
				r.Src = ipNet(p)
			} else {
				r.Dst = ipNet(p)
			}
			continue
		case "iif":
			r.IifName = value
			continue
		case "oif":
			r.OifName = value
			continue
		}
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return nil, err
		}
		switch key {
		case "fwmark":
			r.Mark = uint32(n)
		case "priority":
			r.Priority = int(n)
		case "table":
			r.Table = int(n)
		default:
			return nil, fmt.Errorf("unknown word %q", key)
		}
	}
	return r, nil
}
