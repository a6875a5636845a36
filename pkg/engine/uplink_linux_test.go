package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

const (
	policyUplink = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
  wan2: {interfaces: [eth3], symmetric: {gateway: [192.0.2.1, "fe80::1"]}}
masquerade:
  - {from: lan, to: [wan, wan2]}
gateway:
  conntrack: {accounting: true, timeouts: {udp: {replied: 77s}}}
`
	policyUplinkMoved = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
  wan2: {interfaces: [eth3], symmetric: {gateway: 192.0.2.9, mark: 0x1/0xf}}
masquerade:
  - {from: lan, to: [wan, wan2]}
gateway:
  conntrack: {timeouts: {udp: {replied: 88s}}}
`
)

// uplinkBench is a host with a second uplink, a strict filter, and settings of
// conntrack that no policy here has.
func uplinkBench(t *testing.T) *bench {
	t.Helper()
	l := lab.New(t)
	lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary("ip"))
	host, isp := l.Host("gw"), l.Host("isp")
	for _, name := range []string{"eth0", "eth1", "eth3"} {
		l.Link(host, name, isp, name)
	}
	host.Addr("eth0", "203.0.113.2/24")
	host.Addr("eth3", "192.0.2.2/24")
	host.Addr("eth3", "2001:db8:2::2/64")
	host.Sysctl("net.ipv4.conf.all.rp_filter", "1")
	host.Sysctl("net.netfilter.nf_conntrack_acct", "0")
	host.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "120")
	return benchOn(t, host, filepath.Join(l.Dir(), "state"))
}

// settled is the world, with what uplinks and conntrack settings add to it.
type settled struct {
	World                        world
	Routing, Accounting, Timeout string
}

func (b *bench) routing() string {
	b.t.Helper()
	var out strings.Builder
	for _, words := range []string{"-4 rule", "-6 rule", "-4 route show table all proto 105", "-6 route show table all proto 105"} {
		out.WriteString(b.host.Run(b.t, "ip", strings.Fields(words)...))
	}
	return out.String()
}

func (b *bench) settled() settled {
	b.t.Helper()
	return settled{b.world(), b.routing(), b.host.GetSysctl("net.netfilter.nf_conntrack_acct"), b.host.GetSysctl("net.netfilter.nf_conntrack_udp_timeout_stream")}
}

func (b *bench) wantSettled(want settled) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.settled()); diff != "" {
		b.t.Errorf("things are not as they were (-before +after):\n%s", diff)
	}
}

// What is marked before there is a way for it leaves by the wrong uplink; so
// the way comes first, and goes last.
func TestRoutesAreThereWhileMarksAre(t *testing.T) {
	b := uplinkBench(t)
	atCommit := func(want bool) {
		b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error {
			if got := strings.Contains(b.routing(), "fwmark 0x10000000/0xf0000000"); got != want {
				t.Errorf("there is a rule for the mark: %v, want %v", got, want)
			}
			return commit(c)
		}
	}
	fresh := b.settled()
	atCommit(true)
	b.mustApply(policyUplink)
	b.mustApply(policyA)
	b.hook.commit = nil
	if got := b.routing(); got != fresh.Routing {
		t.Errorf("left behind:\n%s", got)
	}
	b.wantSysctl("net.ipv4.conf.eth3.rp_filter", fresh.World.Sysctls["net/ipv4/conf/eth3/rp_filter"])
	b.mustApply(policyUplink)
	atCommit(true)
	d := b.mustDelete()
	if len(d.Routing.Rules) != 2 {
		t.Errorf("delete tells of %q", d.Routing.Lines())
	}
	b.wantSettled(fresh)
}

// Whenever ipmasq is killed, the next apply or delete leaves nothing of the
// uplink or of the settings behind.
func TestUplinkKilledAfterEachStep(t *testing.T) {
	applying := []string{"state", "routes", "commit", "read back", "sysctls", "remember"}
	for _, c := range []struct {
		name, from, to string
		steps          []string
	}{
		{"first apply", "", policyUplink, applying},
		{"another uplink", policyUplink, policyUplinkMoved, applying},
		{"no uplink", policyUplink, policyA, applying},
		{"delete", policyUplink, "", []string{"sysctls", "commit", "flows", "routes", "forget"}},
	} {
		for _, step := range c.steps {
			t.Run(c.name+" after "+strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
				b := uplinkBench(t)
				fresh := b.settled()
				if c.from != "" {
					b.mustApply(c.from)
				}
				b.crashAfter(step, c.to, "")
				b.mustApply(policyUplinkMoved)
				s, err := b.Status(context.Background())
				if err != nil || s.Drifted() {
					t.Errorf("after the next apply: %+v, %v", s, err)
				}
				b.wantSysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "88")
				b.wantSysctl("net.netfilter.nf_conntrack_acct", "0")
				b.mustDelete()
				b.wantSettled(fresh)
			})
		}
	}
}

// An apply that fails leaves routing and settings as they were.
func TestUplinkFailsWhole(t *testing.T) {
	for _, start := range []string{"", policyUplink} {
		for name, fault := range map[string]func(b *bench){
			"the commit fails": func(b *bench) {
				b.hook.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
			},
			"the state cannot be written": func(b *bench) {
				b.after("sysctls", func() { os.RemoveAll(b.dir) })
			},
		} {
			t.Run(name+" from "+map[string]string{"": "fresh", policyUplink: "an uplink"}[start], func(t *testing.T) {
				b := uplinkBench(t)
				if start != "" {
					b.mustApply(start)
				}
				before := b.settled()
				fault(b)
				if _, err := b.apply(policyUplinkMoved); err == nil {
					t.Error("the apply works")
				}
				b.hook.commit = nil
				after := b.settled()
				if strings.HasPrefix(name, "the state") {
					after.World.State = before.World.State // which is gone
				}
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("things are not as they were (-before +after):\n%s", diff)
				}
			})
		}
	}
}

// What cannot be is said before anything is changed, with a way out.
func TestUplinkRefused(t *testing.T) {
	const automatic = `version: 1
zones:
  wan2: {interfaces: [eth3], symmetric: true}
`
	for name, c := range map[string]struct {
		prepare func(h *lab.Host)
		policy  string
		want    string
	}{
		"no next hop": {nil, automatic, "policy.yaml:3:41: no route through eth3 says what its IPv4 next hop is; write `symmetric: {gateway: ADDRESS}`"},
		"a rule of somebody else": {func(h *lab.Host) {
			h.Run(t, "ip", "rule", "add", "fwmark", "0x10000000/0x10000000", "lookup", "9", "priority", "7")
		}, policyUplink, "a rule of somebody else (rule 7: fwmark 0x10000000/0x10000000 lookup 9 (IPv4)) takes what has the mark 0x10000000/0xf0000000; write `symmetric: {mark: ...}` with bits that nobody uses"},
		"a table of somebody else": {func(h *lab.Host) {
			h.Run(t, "ip", "route", "add", "default", "via", "192.0.2.7", "table", "1768975617")
		}, policyUplink, "table 1768975617 holds routes of somebody else; write `symmetric: {table: ...}` with a number that nobody uses"},
		"a table that is not the namespace's": {nil, "version: 1\ngateway: {conntrack: {max: 77}}\n",
			"only the machine's first network namespace can change it; set it to 77 there, or take `max` out"},
	} {
		t.Run(name, func(t *testing.T) {
			b := uplinkBench(t)
			if c.prepare != nil {
				c.prepare(b.host)
			}
			before := b.settled()
			if _, err := b.apply(c.policy); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			b.wantSettled(before)
		})
	}
}

// The next hop is that of other routes where there is no default route, or the
// link itself where it has another end; an interface that is not there waits.
func TestUplinkNextHop(t *testing.T) {
	const automatic = `version: 1
zones:
  wan2: {interfaces: [eth3], symmetric: true}
`
	b := uplinkBench(t)
	b.host.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.7")
	b.host.Run(t, "ip", "-6", "route", "add", "default", "via", "fe80::7", "dev", "eth3", "table", "55")
	b.mustApply(automatic)
	for _, want := range []string{"default via 192.0.2.7 dev eth3 table 1768975617", "default via fe80::7 dev eth3 table 1768975617"} {
		if got := b.routing(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	b.host.Run(t, "ip", "route", "del", "198.51.100.0/24")
	s, err := b.Status(context.Background())
	if err != nil || s.RoutingProblem == nil || !s.Drifted() {
		t.Errorf("status does not see that the next hop is gone: %+v, %v", s, err)
	}
	b.host.Down("eth3")
	pl := b.mustApply(automatic)
	if len(pl.Warnings) != 1 || !strings.Contains(pl.Warnings[0], "eth3 of the symmetric zone wan2 is not up") {
		t.Errorf("%q", pl.Warnings)
	}
	b.host.Run(t, "ip", "addr", "flush", "dev", "eth3")
	b.host.Up("eth3")
	pl = b.mustApply(policyUplink)
	if len(pl.Warnings) != 1 || !strings.Contains(pl.Warnings[0], "eth3 of the symmetric zone wan2 has no address") {
		t.Errorf("%q", pl.Warnings)
	}
	b.mustDelete()
}

// A link with two ends needs no next hop, and no route of a family that it does
// not speak.
func TestUplinkPointToPoint(t *testing.T) {
	lab.Require(t, lab.Tun(t))
	b := uplinkBench(t)
	b.host.Run(t, "ip", "tuntap", "add", "mode", "tun", "name", "ppp0")
	b.host.Sysctl("net.ipv6.conf.ppp0.disable_ipv6", "1")
	b.host.Run(t, "ip", "addr", "add", "203.0.113.7", "peer", "203.0.113.8", "dev", "ppp0")
	b.host.Up("ppp0")
	b.mustApply(`version: 1
zones:
  wan2: {interfaces: [ppp0], symmetric: true}
`)
	want := "default dev ppp0 table 1768975617"
	if got := b.routing(); !strings.Contains(got, want) || strings.Count(got, "fwmark") != 1 {
		t.Errorf("want %q, and IPv4 alone:\n%s", want, got)
	}
	s, err := b.Status(context.Background())
	if err != nil || s.Drifted() {
		t.Errorf("%+v, %v", s, err)
	}
	b.mustDelete()
}

// A table that the policy names and that somebody else fills is used as it is.
func TestUplinkTableOfOthers(t *testing.T) {
	b := uplinkBench(t)
	b.host.Run(t, "ip", "route", "add", "default", "via", "192.0.2.7", "table", "77")
	before := b.routing()
	b.mustApply(`version: 1
zones:
  wan2: {interfaces: [eth3], networks: 0.0.0.0/0, symmetric: {gateway: 192.0.2.1, table: 77}}
`)
	if got := b.host.Run(t, "ip", "route", "show", "table", "77"); strings.TrimSpace(got) != "default via 192.0.2.7 dev eth3" {
		t.Errorf("the table is\n%s", got)
	}
	b.mustDelete()
	if got := b.routing(); got != before {
		t.Errorf("left behind:\n%s", got)
	}
}

// What the policy says of conntrack goes back with the policy, to what it was
// first, or to what somebody else has made of it.
func TestConntrackSettings(t *testing.T) {
	const timeout, accounting = "net.netfilter.nf_conntrack_udp_timeout_stream", "net.netfilter.nf_conntrack_acct"
	b := uplinkBench(t)
	fresh := b.settled()
	b.mustApply(policyUplink)
	b.wantSysctl(timeout, "77")
	b.mustApply(policyUplinkMoved)
	b.wantSysctl(timeout, "88")
	b.wantSysctl(accounting, "0")
	b.mustApply(policyNone) // leaves all sysctls
	b.wantSysctl(timeout, "88")
	b.mustApply(policyA)
	b.wantSysctl(timeout, "120")

	b.mustApply(policyUplink)
	b.host.Sysctl(timeout, "55")
	s, err := b.Status(context.Background())
	if err != nil || len(s.SysctlDrift) != 1 || s.SysctlDrift[0].Before != "55" {
		t.Errorf("status does not see it: %+v, %v", s.SysctlDrift, err)
	}
	b.mustApply(policyA)
	b.wantSysctl(timeout, "55") // somebody else's
	b.mustApply(policyUplink)
	b.wantSysctl(timeout, "77")
	b.mustDelete()
	b.wantSysctl(timeout, "55")
	b.wantSysctl(accounting, "0")
	b.host.Sysctl(timeout, "120")
	b.wantSettled(fresh)
}

// The strict filter of an inside interface, which the mark would deceive, is the
// host's to loosen: apply only says so.
func TestUplinkWarnsOfValidMarks(t *testing.T) {
	b := uplinkBench(t)
	if pl := b.mustApply(policyUplink); len(pl.Warnings) != 0 {
		t.Errorf("%q", pl.Warnings)
	}
	b.host.Sysctl("net.ipv4.conf.all.src_valid_mark", "1")
	b.host.Sysctl("net.ipv4.conf.eth0.rp_filter", "2")
	pl := b.mustApply(policyUplink)
	if len(pl.Warnings) != 1 || !strings.Contains(pl.Warnings[0], "net.ipv4.conf.eth1.rp_filter is strict and src_valid_mark is on") {
		t.Errorf("%q", pl.Warnings)
	}
}

// Without the capability nothing is changed.
func TestUplinkNotPermitted(t *testing.T) {
	b := uplinkBench(t)
	before := b.settled()
	onOwnThread(func() {
		dropNetAdmin(t)
		if _, err := b.apply(policyUplink); !errors.Is(err, unix.EPERM) {
			t.Errorf("got %v, want EPERM", err)
		}
	})
	b.wantSettled(before)
}
