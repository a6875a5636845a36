package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

const (
	conntrackMax    = "net/netfilter/nf_conntrack_max"
	conntrackLoose  = "net/netfilter/nf_conntrack_tcp_loose"
	conntrackICMPv6 = "net/netfilter/nf_conntrack_icmpv6_timeout"
)

// settings plans the sysctls that last as long as the policy asks for them. A
// policy without anything leaves them all as they are.
func (e *Engine) settings(p *policy.Policy, r *compile.Result, remembered []sysctl.Change) (changes []sysctl.Change, warnings []string, err error) {
	if len(p.Zones) == 0 && p.Gateway.Conntrack == nil {
		return nil, nil, nil
	}
	err = e.NetNS.Do(func() error {
		want := conntrackSettings(p.Gateway.Conntrack)
		if r.Strict {
			want = append(want, sysctl.Setting{Name: conntrackLoose, Value: "0", Why: "rules with synproxy need it"})
		}
		if len(want) > 0 {
			if err := loadConntrack(); err != nil {
				return err
			}
			if _, err := sysctl.Get(conntrackICMPv6); errors.Is(err, sysctl.ErrAbsent) { // a kernel without IPv6
				want = slices.DeleteFunc(want, func(s sysctl.Setting) bool { return s.Name == conntrackICMPv6 })
			}
		}
		filters, warning := reversePath(r.Uplinks)
		want = append(want, filters...)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		changes, err = sysctl.SettingChanges(want, remembered)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("plan the sysctls: %w", err)
	}
	return changes, warnings, nil
}

// mayWriteMax refuses what only the machine can have, since the size of the
// table is one for all of its network namespaces.
func (e *Engine) mayWriteMax(p *policy.Policy, changes []sysctl.Change) error {
	i := slices.IndexFunc(changes, func(c sysctl.Change) bool { return c.Name == conntrackMax && c.Kind == sysctl.Sets })
	if i < 0 {
		return nil
	}
	c, fixed := changes[i], false
	if err := e.NetNS.Do(func() error { fixed = sysctl.Fixed(c.Name); return nil }); err != nil || !fixed {
		return err
	}
	message := fmt.Sprintf("net.netfilter.nf_conntrack_max is %s, and only the machine's first network namespace can change it; set it to %s there, or take `max` out", c.Before, c.After)
	return policy.Errors{&policy.Error{Place: p.Gateway.Conntrack.Place, Message: message}}
}

// loadConntrack has the kernel load the module that has the settings, by
// asking for a flow.
func loadConntrack() error {
	if _, err := sysctl.Get(conntrackMax); !errors.Is(err, sysctl.ErrAbsent) {
		return err
	}
	c, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Translated(func(conntrack.Flow) bool { return false })
}

// conntrackSettings are the sysctls that `gateway.conntrack` means.
func conntrackSettings(c *policy.Conntrack) []sysctl.Setting {
	if c == nil {
		return nil
	}
	var out []sysctl.Setting
	set := func(name, value, key string) {
		out = append(out, sysctl.Setting{Name: "net/netfilter/nf_conntrack_" + name, Value: value, Why: "the policy sets gateway.conntrack." + key})
	}
	after := func(name string, d time.Duration, key string) {
		if d > 0 {
			set(name, strconv.FormatInt(int64(d/time.Second), 10), "timeouts."+key)
		}
	}
	if c.Max > 0 {
		set("max", strconv.FormatUint(uint64(c.Max), 10), "max")
	}
	if c.Accounting != nil {
		value := "0"
		if *c.Accounting {
			value = "1"
		}
		set("acct", value, "accounting")
	}
	if t := c.Timeouts; t != nil {
		for _, s := range t.TCP {
			after("tcp_timeout_"+s.State, s.After, "tcp."+s.State)
		}
		for _, s := range t.UDP {
			name := map[string]string{"unreplied": "udp_timeout", "replied": "udp_timeout_stream"}[s.State]
			after(name, s.After, "udp."+s.State)
		}
		after("icmp_timeout", t.ICMP, "icmp")
		after("icmpv6_timeout", t.ICMP, "icmp")
		after("generic_timeout", t.Generic, "generic")
	}
	return out
}

const (
	strict = 1 // rp_filter: the way back leads through the same interface
	loose  = 2 // there is a way back
)

// reversePath loosens the check of sources on symmetric uplinks, where it is
// strict: the way back of the main table is by another interface. The warning
// is about the inside, where the check would look at the mark too.
func reversePath(uplinks []compile.Uplink) (want []sysctl.Setting, warning string) {
	if len(uplinks) == 0 {
		return nil, ""
	}
	number := func(link, key string) int {
		text, _ := sysctl.Get("net/ipv4/conf/" + link + "/" + key)
		n, _ := strconv.Atoi(text)
		return n
	}
	all, marks := number("all", "rp_filter"), number("all", "src_valid_mark")
	for i := range uplinks {
		u := &uplinks[i]
		name := "net/ipv4/conf/" + u.Interface + "/rp_filter"
		if _, err := sysctl.Get(name); err != nil || !u.Families[0] {
			continue
		}
		if now := number(u.Interface, "rp_filter"); max(all, now) == strict || now == loose {
			want = append(want, sysctl.Setting{Name: name, Value: strconv.Itoa(loose), Why: "zone " + u.Zone + " is symmetric, and the strict filter drops what comes in by another way than the default route"})
		}
	}
	links, _ := sysctl.Links()
	for _, l := range links {
		if slices.ContainsFunc(uplinks, func(u compile.Uplink) bool { return u.Interface == l }) || l == "lo" {
			continue
		}
		if max(all, number(l, "rp_filter")) == strict && max(marks, number(l, "src_valid_mark")) == 1 {
			return want, fmt.Sprintf("net.ipv4.conf.%s.rp_filter is strict and src_valid_mark is on: answers that come from there within flows of a symmetric zone are dropped; "+
				"set rp_filter to 2 there, or src_valid_mark to 0", l)
		}
	}
	return want, ""
}
