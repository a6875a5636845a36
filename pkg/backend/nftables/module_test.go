//go:build linux

package nftables_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestModulesOfHelpers has modprobe asked for what translates, once for each
// module, when helpers are made, and not when they are there or only planned.
func TestModulesOfHelpers(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	if err := os.WriteFile(filepath.Join(dir, "modprobe"), []byte("#!/bin/sh\necho \"$*\" >>"+asked+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	rs := &ruleset.Ruleset{}
	for name, helper := range map[string]ruleset.Helper{
		"a": {Helper: "ftp", Protocol: 6, Family: ruleset.Inet}, "b": {Helper: "Q.931", Protocol: 6, Family: ruleset.Inet},
		"c": {Helper: "RAS", Protocol: 17, Family: ruleset.Inet}, "d": {Helper: "snmp", Protocol: 17, Family: ruleset.IPv4},
		"e": {Helper: "sane", Protocol: 6, Family: ruleset.Inet}, "f": {Helper: "netbios-ns", Protocol: 17, Family: ruleset.IPv4},
	} {
		helper.Name = name
		rs.Helpers = append(rs.Helpers, &helper)
	}
	want := h.want(t, rs)
	if err := h.Commit(t.Context(), plan.Diff(h.have(t), want), true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(asked); !os.IsNotExist(err) {
		t.Errorf("a dry run asks for modules: %v", err)
	}
	h.reach(t, want)
	rs.Counters = []*ruleset.Counter{{Name: "other"}}
	h.reach(t, h.want(t, rs))
	got, err := os.ReadFile(asked)
	if err != nil || string(got) != "-q -a -- nf_nat_ftp nf_nat_h323 nf_nat_snmp_basic\n" {
		t.Errorf("asked for %q (%v)", got, err)
	}
}
