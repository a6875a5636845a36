package iptables_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
)

func (h *host) wants(t testing.TB, rs *ruleset.Ruleset) *plan.Snapshot {
	t.Helper()
	want, err := h.Want(rs)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// commits makes a snapshot true and reads it back.
func (h *host) commits(t *testing.T, want *plan.Snapshot) *plan.Changes {
	t.Helper()
	changes := plan.Diff(h.reads(t), want)
	if err := h.Commit(context.Background(), changes, false); err != nil {
		t.Fatal(err)
	}
	compare(t, h.reads(t), want)
	after, err := h.HaveAfter(context.Background(), changes)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, after, want)
	return changes
}

// lines are the rules of both families.
func (h *host) lines(t *testing.T) int {
	t.Helper()
	return strings.Count(h.host.Run(t, h.variant+"-save")+h.host.Run(t, "ip6"+strings.TrimPrefix(h.variant, "ip")+"-save"), "\n-A ")
}

// eachVariant runs a test on a host of each variant that has the ipset program.
func eachVariant(t *testing.T, run func(t *testing.T, h *host)) {
	t.Parallel()
	for _, variant := range variants() {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.Binary("ipset"))
			run(t, newHost(t, variant))
		})
	}
}

// A set of any size is the same rules. What differs of it changes alone, by
// element or as a whole, and others' flush is seen and put right.
func TestSetsOfKernel(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		few := sized(t, 20)
		h.commits(t, h.wants(t, few))
		lines := h.lines(t)
		for _, c := range []struct {
			what string
			rs   *ruleset.Ruleset
		}{{"more", sized(t, 30_000)}, {"some less", sized(t, 30_000, 0, 5, 29_999)}, {"few again", few}} {
			changes := h.commits(t, h.wants(t, c.rs))
			if len(changes.Chains) > 0 || h.lines(t) != lines {
				t.Errorf("%s: %d chains changed, and there are %d lines, not %d", c.what, len(changes.Chains), h.lines(t), lines)
			}
		}
		listed := h.host.Run(t, "ipset", "save")
		for _, set := range h.wants(t, few).Sets {
			if got := strings.Count(listed, "add "+set.Name+" "); got != set.Elements.Len() {
				t.Errorf("ipset lists %d elements of %s, which has %d", got, set.Name, set.Elements.Len())
			}
		}
		before, _ := h.Probe(context.Background())
		h.host.Run(t, "ipset", "flush", h.wants(t, few).Sets[1].Name)
		if after, _ := h.Probe(context.Background()); after == before {
			t.Error("a set was flushed, and the generation is the same")
		}
		entries := plan.Diff(h.reads(t), h.wants(t, few)).Entries()
		if len(entries) != 1 || entries[0].Entry == "" || entries[0].ElementsAdded != 20 {
			t.Errorf("what differs is told as %+v", entries)
		}
		h.commits(t, h.wants(t, few))
		if after, _ := h.Probe(context.Background()); after != before {
			t.Error("all is as it was, and the generation is another")
		}
		h.commits(t, &plan.Snapshot{})
		if left := h.host.Run(t, "ipset", "list", "-n"); left != "" {
			t.Errorf("sets are left:\n%s", left)
		}
	})
}

// A dry run and a commit that fails leave the sets as they were.
func TestSetsGoBack(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx := context.Background()
		h.host.Run(t, "ipset", "create", "others", "hash:ip")
		first := h.wants(t, sized(t, 3000))
		h.commits(t, first)
		before := h.host.Run(t, "ipset", "save")
		// Sets that change by element, as a whole, and that are new, with a rule that
		// only the kernel refuses, in the last table.
		next := h.wants(t, sized(t, 6000))
		next.Sets = append(next.Sets, &plan.Set{Name: "ipmasq-new", Attributes: next.Sets[1].Attributes, Elements: next.Sets[1].Elements})
		less := h.wants(t, sized(t, 2990))
		next.Sets[2].Elements = less.Sets[slices.IndexFunc(less.Sets, func(s *plan.Set) bool { return s.Name == next.Sets[2].Name })].Elements
		next.Chains = append(next.Chains, chains(map[string][]string{
			"nat IPMASQ-zz": {"-m owner --socket-exists -j RETURN"}, "raw IPMASQ-asks": {"-m set --match-set ipmasq-new src -j RETURN"},
		}).Chains...)
		for i := range next.Chains {
			if c := &next.Chains[i]; c.Name == "ipv4 nat PREROUTING" {
				c.Rules = append(c.Rules, plan.Rule{Body: []byte("2 -m comment --comment ipmasq -j IPMASQ-zz")})
			}
		}
		next.Normalize()
		same := func(what string) {
			t.Helper()
			if after := h.host.Run(t, "ipset", "save"); strip(after) != strip(before) {
				t.Errorf("%s: the sets are not as they were:\n%.500s", what, after)
			}
			compare(t, h.reads(t), first)
		}
		if err := h.Commit(ctx, plan.Diff(h.reads(t), next), true); err != nil {
			t.Fatal(err)
		}
		same("a dry run")
		if err := h.Commit(ctx, plan.Diff(h.reads(t), next), false); err == nil {
			t.Fatal("the kernel took a rule that it should refuse")
		}
		same("a commit that fails")
		stale := plan.Diff(h.reads(t), h.wants(t, sized(t, 6000)))
		h.host.Run(t, "ipset", "flush", first.Sets[1].Name)
		if err := h.Commit(ctx, stale, false); err != backend.ErrStale {
			t.Errorf("got %v, want ErrStale", err)
		}
		if left := h.host.Run(t, "ipset", "list", "-n"); strings.Contains(left, "~") || strings.Contains(left, "new") || !strings.Contains(left, "others") {
			t.Errorf("there are\n%s", left)
		}
	})
}

// strip leaves out what the kernel chooses of sets, and puts the rest in order.
func strip(saved string) string {
	lines := strings.Split(saved, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "create") {
			lines[i], _, _ = strings.Cut(line, " hashsize")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// What render prints, ipset and iptables-restore load as a commit installs it.
func TestTextLoads(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		rs := sized(t, 100)
		var text bytes.Buffer
		if err := iptables.TextSets(&text, rs); err != nil {
			t.Fatal(err)
		}
		h.host.Feed(t, text.String(), "ipset", "restore")
		for f, program := range map[ruleset.Family]string{ruleset.IPv4: "iptables", ruleset.IPv6: "ip6tables"} {
			text.Reset()
			if err := iptables.Text(&text, rs, f); err != nil {
				t.Fatal(err)
			}
			h.host.Feed(t, text.String(), program+strings.TrimPrefix(h.variant, "iptables")+"-restore", "--noflush", "--wait")
		}
		compare(t, h.reads(t), h.wants(t, rs))
	})
}
