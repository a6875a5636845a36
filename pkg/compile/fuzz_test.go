package compile_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// FuzzCompile holds what every policy must give: an end, no panic, for every
// mistake a place that is inside a file, and for every ruleset that what its
// rules name is there.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/wrong/*.yaml", "../policy/testdata/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("no seeds in %s (%v)", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	facts := compile.Facts{Links: []compile.Link{{Name: "eth1", Addresses: []compile.Addr{netip.MustParsePrefix("10.0.0.1/24")}}, {Name: "ppp0"}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := policy.Parse("testdata/fuzz.yaml", text)
		if err != nil {
			return
		}
		r, err := compile.Compile(p, facts)
		var errs policy.Errors
		if err != nil {
			var ok bool
			if errs, ok = errors.AsType[policy.Errors](err); !ok || len(errs) == 0 {
				t.Fatalf("%v (%T)", err, err)
			}
		} else {
			errs = r.Warnings
			whole(t, r.Ruleset)
		}
		for _, e := range errs {
			inside(t, p, e.Place)
			for _, n := range e.Notes {
				inside(t, p, n.Place)
			}
		}
	})
}

// inside checks that a place is in a file that was read.
func inside(t *testing.T, p *policy.Policy, at policy.Place) {
	t.Helper()
	for _, s := range p.Sources {
		if s.Name != at.File {
			continue
		}
		lines := bytes.Split(s.Text, []byte{'\n'})
		if at.Line >= 1 && at.Line <= len(lines) && at.Column >= 1 && at.Column <= len(lines[at.Line-1])+1 {
			return
		}
	}
	t.Errorf("%s is not inside a file that was read", at)
}

// whole checks that a ruleset is one that the kernel can take: names are there,
// once, and not too long; elements do not overlap.
func whole(t *testing.T, rs *ruleset.Ruleset) {
	t.Helper()
	names := map[string]bool{}
	take := func(kind, name string) {
		if name == "" || len(name) > 127 || names[kind+name] {
			t.Errorf("%s %q: a bad name, or one that is there twice", kind, name)
		}
		names[kind+name] = true
	}
	for _, s := range rs.Sets {
		take("set ", s.Name)
		for i := 1; i < s.Len(); i++ {
			switch {
			case s.Interval && len(s.Key) == 1 && bytes.Compare(s.HighAt(i-1), s.KeyAt(i)) >= 0:
				t.Errorf("set %s: elements %d and %d overlap", s.Name, i-1, i)
			case !s.Interval && bytes.Compare(s.KeyAt(i-1), s.KeyAt(i)) >= 0:
				t.Errorf("set %s: element %d is there twice, or not in order", s.Name, i)
			}
		}
	}
	for _, c := range rs.Counters {
		take("counter ", c.Name)
	}
	for _, c := range rs.Chains {
		take("chain ", c.Name)
	}
	ids := map[string]bool{}
	there := func(r *ruleset.Rule, kind, name string) {
		if name != "" && !names[kind+name] {
			t.Errorf("rule %s names %s%s, which is not there", r.ID, kind, name)
		}
	}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			if ids[r.ID] || len(r.Origin.Entry) > 127 {
				t.Errorf("rule %s is there twice, or its comment is too long", r.ID)
			}
			ids[r.ID] = true
			there(r, "counter ", r.Counter)
			there(r, "chain ", r.Action.Chain)
			there(r, "set ", r.Action.Map)
			for _, m := range r.Matches {
				there(r, "set ", m.Set)
			}
		}
	}
	var out bytes.Buffer
	if err := nftables.Text(&out, rs); err != nil {
		t.Error(err)
	}
}
