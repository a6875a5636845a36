//go:build linux

package iptables_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// compiled is the ruleset of a policy between two zones.
func compiled(t *testing.T, text string) *ruleset.Ruleset {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\nzones:\n  lan: {interfaces: eth1, networks: [192.168.1.0/24, \"fd00:1::/64\"]}\n  wan: {interfaces: eth0}\n  line: {interfaces: ppp0}\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Ruleset
}

// Timeout objects are there before the rules that refer to them, change with
// them, and are gone with them; what another program made of one is a
// difference, and is put right.
func TestTimeoutObjects(t *testing.T) {
	t.Parallel()
	one := compiled(t, "masquerade: {from: lan, to: wan, helpers: {h323: [1, 1720], ftp: 21}, timeouts: {tcp: {established: 1h, close: 3s}, udp: {unreplied: 9s}, icmp: 8s}}\n")
	two := compiled(t, "masquerade: {from: lan, to: wan, timeouts: {tcp: {established: 2h}}}\n")
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			h, ctx := newHost(t, variant), context.Background()
			reach := func(rs *ruleset.Ruleset, objects int) {
				t.Helper()
				want := &plan.Snapshot{}
				if rs != nil {
					var err error
					if want, err = iptables.Want(rs); err != nil {
						t.Fatal(err)
					}
				}
				have, err := h.Have(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Commit(ctx, plan.Diff(have, want), true); err != nil {
					t.Errorf("a dry run: %v", err)
				}
				if err := h.Commit(ctx, plan.Diff(have, want), false); err != nil {
					t.Fatal(err)
				}
				if have, err = h.Have(ctx); err != nil {
					t.Fatal(err)
				}
				if c := plan.Diff(have, want); !c.Empty() || len(have.Objects) != objects {
					t.Errorf("%d objects, want %d: %v\n%s", len(have.Objects), objects, have.Objects, h.host.Run(t, variant+"-save", "-t", "raw"))
				}
			}
			reach(one, 6)
			reach(two, 2)
			reach(one, 6)
			// Somebody makes it something else.
			h.sends(t, 0, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, func(e *nfnetlink.Encoder) {
				e.String(1, h.object(t, "established"))
				e.Uint16(2, unix.NFPROTO_IPV4)
				e.Uint8(3, unix.IPPROTO_TCP)
				n := e.Open(4)
				e.Uint32(3, 5) // established
				e.Close(n)
			})
			if have := h.reads(t); !strings.Contains(fmt.Sprint(have.Objects), "established 5") {
				t.Errorf("it is not seen that an object was changed: %v", have.Objects)
			}
			reach(one, 6)
			// Somebody's rule refers to it: nothing is done by halves.
			h.host.Run(t, variant, "-t", "raw", "-A", "OUTPUT", "-p", "tcp", "-j", "CT", "--timeout", h.object(t, "established"))
			before := h.reads(t)
			err := h.Commit(ctx, plan.Diff(before, &plan.Snapshot{}), false)
			if err == nil || !strings.Contains(err.Error(), "rules that are not ours use it: device or resource busy") {
				t.Errorf("an object in use is removed: %v", err)
			}
			if c := plan.Diff(h.reads(t), before); !c.Empty() {
				t.Errorf("it is not as it was: %+v", c)
			}
			h.host.Run(t, variant, "-t", "raw", "-F", "OUTPUT")
			reach(one, 6)
			reach(nil, 0)
			// What a commit that died has left.
			h.sends(t, 0, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(e *nfnetlink.Encoder) {
				e.String(1, "=uab")
				e.Uint16(2, unix.NFPROTO_IPV4)
				e.Uint8(3, unix.IPPROTO_UDP)
				e.Close(e.Open(4))
			})
			if have := h.reads(t); len(have.Objects) != 1 {
				t.Errorf("what is left is not seen: %v", have.Objects)
			}
			reach(nil, 0)
			if rest := h.host.Run(t, variant+"-save"); strings.Contains(rest, "IPMASQ") {
				t.Errorf("left:\n%s", rest)
			}
		})
	}
}

// object is the name of an object of IPv4 that names a state.
func (h *host) object(t *testing.T, state string) string {
	t.Helper()
	for _, o := range h.reads(t).Objects {
		if o.Name[1] == 't' && strings.Contains(o.Attributes, state+" ") {
			return o.Name
		}
	}
	t.Fatalf("there is no object with %s", state)
	return ""
}

// sends has the host's kernel make or change a timeout object.
func (h *host) sends(t *testing.T, message, flags uint16, attributes func(*nfnetlink.Encoder)) {
	t.Helper()
	err := h.host.Do(func() error {
		c, err := nfnetlink.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		r := &nfnetlink.Requests{}
		r.Message(unix.NFNL_SUBSYS_CTNETLINK_TIMEOUT<<8|message, flags, unix.AF_UNSPEC)
		attributes(&r.Encoder)
		return c.Do(r, func(refused *nfnetlink.Error) { t.Errorf("the kernel refuses it: %v", refused) })
	})
	if err != nil {
		t.Fatal(err)
	}
}
