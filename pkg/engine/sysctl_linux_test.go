package engine_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// Delete puts back what was before the first apply, not before the last.
func TestSysctlsArePutBack(t *testing.T) {
	b := newBench(t)
	before := b.world()
	b.mustApply(policyA)
	b.wantSysctl("net.ipv4.ip_forward", "1")
	b.mustApply(policyB)
	d := b.mustDelete()
	if len(d.Kept) != 0 || d.StillForwards {
		t.Errorf("%+v", d)
	}
	b.wantWorld(before)
	if d := b.mustDelete(); !d.Empty() {
		t.Errorf("a second delete: %+v", d)
	}
}

// Where somebody else turned forwarding on, its use is not ipmasq's to end;
// but that nothing is translated any more has to be said.
func TestForwardingOfOthersStays(t *testing.T) {
	t.Run("on before the first apply", func(t *testing.T) {
		b := newBench(t)
		b.host.Sysctl("net.ipv4.ip_forward", "1")
		pl := b.mustApply(policyA)
		if len(pl.Sysctls) != 0 {
			t.Errorf("the plan touches %v", pl.Sysctls)
		}
		if d := b.mustDelete(); !d.StillForwards {
			t.Errorf("delete does not say that the host goes on forwarding: %+v", d)
		}
		b.wantSysctl("net.ipv4.ip_forward", "1")
	})
	t.Run("turned on between plan and commit", func(t *testing.T) {
		b := newBench(t)
		b.after("commit", func() { b.host.Sysctl("net.ipv4.ip_forward", "1") })
		b.mustApply(policyA)
		if d := b.mustDelete(); !d.StillForwards {
			t.Errorf("delete does not say that the host goes on forwarding: %+v", d)
		}
		b.wantSysctl("net.ipv4.ip_forward", "1")
	})
	t.Run("turned on after an apply that failed", func(t *testing.T) {
		b := newBench(t)
		onOwnThread(func() {
			dropNetAdmin(t)
			if _, err := b.apply(policyA); err == nil {
				t.Error("apply works without the capability")
			}
		})
		b.host.Sysctl("net.ipv4.ip_forward", "1")
		b.mustApply(policyA)
		b.mustDelete()
		b.wantSysctl("net.ipv4.ip_forward", "1")
	})
	t.Run("turned off since", func(t *testing.T) {
		b := newBench(t)
		b.mustApply(policyA)
		b.host.Sysctl("net.ipv4.ip_forward", "0")
		s, err := b.Status(context.Background())
		if err != nil || len(s.SysctlDrift) == 0 || !s.Drifted() {
			t.Errorf("status does not see it: %+v, %v", s, err)
		}
		b.mustDelete()
		b.wantSysctl("net.ipv4.ip_forward", "0")
	})
	t.Run("a setting that apply has spread over", func(t *testing.T) {
		b := newBench(t)
		b.host.Sysctl("net.ipv4.conf.all.accept_redirects", "0")
		b.mustApply(policyA)
		b.host.Sysctl("net.ipv4.conf.lo.rp_filter", "2")
		b.mustDelete()
		b.wantSysctl("net.ipv4.conf.all.accept_redirects", "0")
		b.wantSysctl("net.ipv4.conf.lo.rp_filter", "2")
	})
}

// A dry run tells the truth about sysctls that somebody else has changed.
func TestDryDelete(t *testing.T) {
	b := newBench(t)
	b.host.Sysctl("net.ipv6.conf.all.forwarding", "0")
	b.mustApply(policyA)
	before := b.world()
	d, err := b.Delete(context.Background(), true)
	if err != nil || d.Empty() || len(d.Restored) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	b.wantWorld(before)
}

// `version: 1` alone takes the rules out and leaves the sysctls; a delete
// after it still knows how to put them back.
func TestEmptyPolicyLeavesSysctls(t *testing.T) {
	b := newBench(t)
	before := b.world()
	b.mustApply(policyA)
	b.mustApply(policyNone)
	if left := b.world().Rules; left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	b.wantSysctl("net.ipv4.ip_forward", "1")
	b.mustDelete()
	b.wantWorld(before)
}

// Turning IPv6 forwarding on drops the default route that a router advertises,
// and so cuts the gateway off, unless accept_ra is 2 on that link before.
func TestAdvertisedDefaultRouteStays(t *testing.T) {
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	host, router := l.Host("gw"), l.Host("router")
	l.Link(host, "eth0", router, "eth0")
	host.Sysctl("net/ipv6/conf/eth0/accept_ra", "1")
	b := benchOn(t, host, filepath.Join(l.Dir(), "state"))

	for deadline := time.Now().Add(lab.Patience); !advertised(t, b); {
		if time.Now().After(deadline) {
			t.Fatalf("no advertised default route:\n%s", host.Run(t, "ip", "-6", "route"))
		}
		if err := router.Do(func() error { return advertise("eth0") }); err != nil {
			t.Fatal(err)
		}
		l.Settle()
	}
	b.mustApply(policyV6)
	b.wantSysctl("net.ipv6.conf.all.forwarding", "1")
	b.wantSysctl("net.ipv6.conf.eth0.accept_ra", "2")
	if !advertised(t, b) {
		t.Error("apply has lost the default route")
	}
	b.mustDelete()
	b.wantSysctl("net.ipv6.conf.all.forwarding", "0")
	b.wantSysctl("net.ipv6.conf.eth0.accept_ra", "1")
	if !advertised(t, b) {
		t.Error("delete has lost the default route")
	}
}

func advertised(t *testing.T, b *bench) bool {
	t.Helper()
	var facts link.Facts
	err := b.NetNS.Do(func() (err error) { facts, err = link.Read(); return err })
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(facts.RADefaultRouteLinks(), "eth0")
}

// advertise sends one router advertisement to all nodes (RFC 4861 4.2): hop
// limit 64, no flags, lifetime 1800 s. The kernel computes the checksum.
func advertise(name string) error {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return err
	}
	to := &unix.SockaddrInet6{ZoneId: uint32(ifi.Index)}
	copy(to.Addr[:], net.IPv6linklocalallnodes)
	return unix.Sendto(fd, []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, 0, to)
}

// The sysctls in the state of one namespace are not another's to put back.
func TestStateOfAnotherNamespace(t *testing.T) {
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	dir := filepath.Join(l.Dir(), "state")
	a, b := benchOn(t, l.Host("a"), dir), benchOn(t, l.Host("b"), dir)
	a.mustApply(policyA)
	before := b.world()
	for name, do := range map[string]func() error{
		"apply":  func() error { _, err := b.apply(policyA); return err },
		"plan":   func() error { _, err := b.Plan(context.Background(), parse(t, policyA)); return err },
		"status": func() error { _, err := b.Status(context.Background()); return err },
		"delete": func() error { _, err := b.Delete(context.Background(), false); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "another network namespace") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	b.wantWorld(before)

	// With the sysctls of a killed first apply it is the same.
	a.mustDelete()
	a.crashAfter("state", policyA, "")
	if _, err := b.apply(policyA); err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("after a killed first apply: got %v", err)
	}
	a.mustDelete()
	b.mustApply(policyA)
}

// A container that was made anew keeps its state on a volume: with nothing to
// put back in it, it must not keep the container from its rules.
func TestStateOfANamespaceWithoutSysctls(t *testing.T) {
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	dir := filepath.Join(l.Dir(), "state")
	a, b := benchOn(t, l.Host("a"), dir), benchOn(t, l.Host("b"), dir)
	a.host.Sysctl("net.ipv4.ip_forward", "1")
	b.host.Sysctl("net.ipv4.ip_forward", "1")
	a.mustApply(policyA)
	b.mustApply(policyB)
	// Now the state is b's, and a has rules of its own.
	if _, err := a.apply(policyA); err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("got %v", err)
	}
}

// What a sysctl was is forgotten with the boot it was read in: the next boot
// sets all of them anew.
func TestSysctlsOfAnEarlierBoot(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	s, err := b.State.Load()
	if err != nil {
		t.Fatal(err)
	}
	s.NetNS = "1:1@another-boot"
	if err := b.State.Save(*s); err != nil {
		t.Fatal(err)
	}
	b.host.Run(t, "nft", "delete table inet ipmasq")
	b.mustApply(policyA) // forwarding is on by now: /etc/sysctl.d did it
	if d := b.mustDelete(); !d.StillForwards {
		t.Errorf("%+v", d)
	}
	b.wantSysctl("net.ipv4.ip_forward", "1")
}
