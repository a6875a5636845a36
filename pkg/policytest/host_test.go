package policytest_test

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
)

var update = flag.Bool("update", false, "write the .out files of testdata")

// golden compares with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, want)
	}
}

func load(t *testing.T, name string) *policy.Policy {
	t.Helper()
	p, err := policy.Load([]string{name}, policy.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The hosts of testdata/hosts: x.yaml is what is written, x.policy.yaml the
// policy, x.out the whole host.
func TestHost(t *testing.T) {
	names, err := filepath.Glob("testdata/hosts/*.policy.yaml")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d hosts (%v)", len(names), err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(name, ".policy.yaml")
		t.Run(filepath.Base(base), func(t *testing.T) {
			var h *policytest.Host
			if _, err := os.Stat(base + ".yaml"); err == nil {
				if h, err = policytest.LoadHost(base + ".yaml"); err != nil {
					t.Fatal(err)
				}
			}
			built, err := h.Build(load(t, name))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, base+".out", []byte(policytest.HostText(built)))
		})
	}
}

// For every policy that there is, a host is made up on which it can be tried:
// each zone has a link, uplinks lead out, and what is written down of the host
// gives the same one again.
func TestHostOfEveryPolicy(t *testing.T) {
	var names []string
	for _, pattern := range []string{"../../examples/*.yaml", "../compile/testdata/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	tried := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".test.yaml") {
			continue
		}
		p, err := policy.Load([]string{name}, policy.LoadOptions{})
		if err != nil {
			continue // files that are not policies alone
		}
		tried++
		built, err := (*policytest.Host)(nil).Build(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := policytest.HostText(built)
		if text == "" {
			continue
		}
		routes, err := built.Read()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		h, err := policytest.ParseHost("host.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		again, err := h.Build(p)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if second := policytest.HostText(again); second != text {
			t.Errorf("%s: made up:\n%s\nread again:\n%s", name, text, second)
		}
		for _, z := range p.Zones {
			for _, a := range z.Networks {
				if a.Low.IsValid() && !a.Low.IsUnspecified() && len(routes.Leaves(a.High.Prev())) == 0 && !routes.Local(a.High.Prev()) {
					t.Errorf("%s: nothing leads to %s of zone %s\n%s", name, a, z.Name, text)
				}
			}
		}
		outside := netip.MustParseAddr("9.9.9.9")
		if len(p.Masquerade) > 0 && len(routes.Leaves(outside)) == 0 {
			t.Errorf("%s: nothing leads to %s\n%s", name, outside, text)
		}
	}
	if tried < 60 {
		t.Errorf("%d policies", tried)
	}
}

// What is written of a host and does not fit.
func TestHostWrong(t *testing.T) {
	p, err := policy.Parse("p.yaml", []byte("version: 1\nzones: {lan: {interfaces: eth1, networks: 192.168.1.0/24}, wan: {interfaces: eth0}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"routes: [{to: 10.0.0.0/8, via: 10.9.9.9}]":    "h.yaml:1:10: no link leads to 10.9.9.9; name one with `link`",
		"routes: [{to: 10.0.0.0/8, link: eth9}]":       `h.yaml:1:10: there is no link "eth9"`,
		"routes: [{to: 10.0.0.0/8, via: 192.168.1.9}]": "",
		"links: {eth0: {addresses: none}}":             "",
	} {
		h, err := policytest.ParseHost("h.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		_, err = h.Build(p)
		var errs policy.Errors
		switch {
		case want == "" && err != nil, want != "" && (!errors.As(err, &errs) || err.Error() != want):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
