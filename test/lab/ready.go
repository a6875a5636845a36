package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ready waits until every interface that has a carrier may send, and every IPv6 address answers.
//
// When one end of a veth comes up the other end gets its carrier at once, but its queue, its IPv6 and its bridge
// port only from a work queue (net/core/link_watch.c), and loses what it sends until then. Asking for one link
// runs that work in newer kernels (rtnl_getlink); older ones need a moment. An IPv6 address joins the group that
// neighbours look for it in from another work queue (net/ipv6/addrconf.c, addrconf_dad_work), and no flag
// tells. What is lost costs a second, which is when the neighbour asks again.
func (l *Lab) ready() error {
	l.mu.Lock()
	var hosts []*Host
	for _, h := range l.hosts {
		if h != nil {
			hosts = append(hosts, h)
		}
	}
	l.mu.Unlock()
	for deadline := time.Now().Add(Patience); ; time.Sleep(200 * time.Microsecond) {
		// One link's work may leave work for another, so all must be found done in one pass.
		stable, name := true, ""
		for _, h := range hosts {
			pending, err := h.pending()
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			if pending != "" {
				stable, name = false, h.name+":"+pending
			}
		}
		if stable {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s to come up: %w", name, os.ErrDeadlineExceeded)
		}
	}
}

// pending returns an interface or an address that was not ready when looked at, and hurries the interfaces.
func (h *Host) pending() (string, error) {
	links, err := h.nl.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "", fmt.Errorf("list links: %w", err)
	}
	pending := ""
	live := make(map[int]bool)
	for _, link := range links {
		a := link.Attrs()
		const up = unix.IFF_UP | unix.IFF_LOWER_UP
		if a.RawFlags&up != up || a.RawFlags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		if a.RawFlags&unix.IFF_NOARP == 0 { // which joins no such groups
			live[a.Index] = true
		}
		if a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown {
			pending = a.Name
			_, _ = h.nl.LinkByIndex(a.Index)
		}
	}
	if pending != "" {
		return pending, nil
	}
	return h.pendingAddress(live)
}

func (h *Host) pendingAddress(live map[int]bool) (string, error) {
	addrs, err := h.nl.AddrList(nil, netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "", fmt.Errorf("list addresses: %w", err)
	}
	if len(addrs) == 0 {
		return "", nil
	}
	var groups string
	err = h.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/igmp6")
		groups = string(b)
		return err
	})
	if err != nil {
		return "", err
	}
	joined := make(map[string]bool) // by index and group
	for line := range strings.Lines(groups) {
		if f := strings.Fields(line); len(f) > 2 {
			joined[f[0]+" "+f[2]] = true
		}
	}
	for _, a := range addrs {
		if !live[a.LinkIndex] {
			continue
		}
		// The solicited-node address (RFC 4291, 2.7.1).
		group := fmt.Sprintf("%d ff0200000000000000000001ff%x", a.LinkIndex, []byte(a.IP[13:16]))
		if a.Flags&unix.IFA_F_TENTATIVE != 0 || !joined[group] {
			return a.IP.String(), nil
		}
	}
	return "", nil
}
