package sysctl

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// set is Set, and the test fails where it does.
func set(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := Set(pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// everything is all settings of the namespace that hold still by themselves.
func everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range []string{"net/ipv4", "net/ipv6"} {
		filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				if text, err := os.ReadFile(path); err == nil {
					all[strings.TrimPrefix(path, root+"/")] = tidy(string(text))
				}
			}
			return nil
		})
	}
	maps.DeleteFunc(all, func(name, _ string) bool {
		return strings.Contains(name, "tcp_fastopen_key") || strings.Contains(name, "stable_secret")
	})
	return all
}

// same compares all settings, but those named.
func same(t *testing.T, before, after map[string]string, but ...string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if before[name] != after[name] && !slices.Contains(but, name) {
			t.Errorf("%s was %q, is %q", name, before[name], after[name])
		}
	}
}

func names(changes []Change) (writes, held []string) {
	for _, c := range changes {
		if c.Writes() {
			writes = append(writes, c.Name+" "+c.Before+"->"+c.After)
		} else {
			held = append(held, c.Name+" "+c.Before)
		}
	}
	return writes, held
}

func plan(t *testing.T, want Forwarding, links ...string) []Change {
	t.Helper()
	changes, err := ForwardingChanges(want, links)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.Why == "" {
			t.Errorf("%s has no reason", c.Name)
		}
	}
	return changes
}

func TestForwardingChanges(t *testing.T) {
	both := Forwarding{IPv4: true, IPv6: true}
	for _, c := range []struct {
		name         string
		given        []string
		want         Forwarding
		links        []string
		writes, held []string
	}{
		{name: "nothing wanted"},
		{name: "both", want: both, links: []string{"lan"},
			writes: []string{"net/ipv4/ip_forward 0->1", "net/ipv6/conf/lan/accept_ra 1->2", "net/ipv6/conf/all/forwarding 0->1"}},
		{name: "already on: nothing is written, per-interface off included",
			given: []string{"net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1", "net/ipv4/conf/lan/forwarding", "0"},
			want:  both, links: []string{"lan"}},
		{name: "on with another number", given: []string{"net/ipv4/ip_forward", "2"}, want: Forwarding{IPv4: true}},
		{name: "accept_ra off or 2 stays, a link that is gone is none",
			given: []string{"net/ipv6/conf/lan/accept_ra", "0", "net/ipv6/conf/wan/accept_ra", "2"},
			want:  Forwarding{IPv6: true}, links: []string{"lan", "wan", "gone"},
			writes: []string{"net/ipv6/conf/all/forwarding 0->1"}},
		{name: "what the way back overwrites is held",
			given:  []string{"net/ipv4/conf/lan/forwarding", "1", "net/ipv4/conf/all/accept_redirects", "0", "net/ipv6/conf/wan/forwarding", "1"},
			want:   both,
			writes: []string{"net/ipv4/ip_forward 0->1", "net/ipv6/conf/all/forwarding 0->1"},
			held:   []string{"net/ipv4/conf/all/accept_redirects 0", "net/ipv4/conf/lan/forwarding 1", "net/ipv6/conf/wan/forwarding 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			freshNetNS(t)
			set(t, c.given...)
			before := everything(t)
			changes := plan(t, c.want, c.links...)
			writes, held := names(changes)
			if !slices.Equal(writes, c.writes) || !slices.Equal(held, c.held) {
				t.Fatalf("writes %q\nheld   %q\nwant   %q\nheld   %q", writes, held, c.writes, c.held)
			}
			same(t, before, everything(t))
			done, err := Apply(changes)
			if err != nil || !slices.Equal(done, changes) {
				t.Fatalf("Apply = %v, %v", done, err)
			}
			if again := plan(t, c.want, c.links...); len(again) != 0 {
				t.Fatalf("not idempotent: %v", again)
			}
			restored, kept, err := Restore(done)
			if err != nil || len(restored) != len(done) || len(kept) != 0 {
				t.Fatalf("Restore = %v, %v, %v", restored, kept, err)
			}
			same(t, before, everything(t))
		})
	}
}

// The host of the hardened administrator: forwarding on some interfaces only,
// redirects refused, odd numbers. All of it must come back, to the last file.
func TestRestoreIsExact(t *testing.T) {
	freshNetNS(t)
	set(t, "net/ipv4/conf/lan/forwarding", "1", "net/ipv4/conf/wan/forwarding", "2", "net/ipv4/conf/default/forwarding", "1",
		"net/ipv4/conf/all/accept_redirects", "0", "net/ipv6/conf/lan/forwarding", "1", "net/ipv6/conf/default/forwarding", "1")
	if err := Set("net/ipv6/conf/wan/force_forwarding", "1"); err != nil {
		t.Logf("a kernel before 6.17: %v", err)
	}
	before := everything(t)
	done, err := Apply(plan(t, Forwarding{IPv4: true, IPv6: true}, "lan", "wan"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"net/ipv4/conf/lo/forwarding", "net/ipv6/conf/lo/forwarding"} {
		if got, _ := Get(name); got != "1" {
			t.Fatalf("%s is %q: the kernel no longer spreads the switch", name, got)
		}
	}
	if _, kept, err := Restore(done); err != nil || len(kept) != 0 {
		t.Fatal(kept, err)
	}
	same(t, before, everything(t))

	// Twice is harmless.
	if _, kept, err := Restore(done); err != nil || len(kept) != 0 {
		t.Fatal(kept, err)
	}
	same(t, before, everything(t))
}

func TestRestoreKeepsWhatOthersChanged(t *testing.T) {
	freshNetNS(t)
	set(t, "net/ipv4/conf/lan/forwarding", "1", "net/ipv4/conf/wan/forwarding", "2")
	done, err := Apply(plan(t, Forwarding{IPv4: true, IPv6: true}, "lan"))
	if err != nil {
		t.Fatal(err)
	}
	set(t, "net/ipv4/conf/lan/forwarding", "0", "net/ipv4/conf/wan/forwarding", "3", "net/ipv6/conf/lan/accept_ra", "0")
	forced := Set("net/ipv6/conf/wan/force_forwarding", "1") == nil
	_, kept, err := Restore(done)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range kept {
		got = append(got, c.Name)
	}
	want := []string{"net/ipv6/conf/lan/accept_ra", "net/ipv4/conf/wan/forwarding", "net/ipv4/conf/lan/forwarding"}
	if !slices.Equal(got, want) {
		t.Errorf("kept %v\nwant %v", got, want)
	}
	for name, want := range map[string]string{
		"net/ipv4/ip_forward":                "0",
		"net/ipv4/conf/lan/forwarding":       "0",
		"net/ipv4/conf/wan/forwarding":       "3",
		"net/ipv4/conf/lo/forwarding":        "0",
		"net/ipv6/conf/lan/accept_ra":        "0",
		"net/ipv6/conf/wan/force_forwarding": map[bool]string{true: "1"}[forced],
	} {
		if value, _ := Get(name); value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
}

// An administrator who has turned forwarding off and one interface on again
// since: nothing is ours any more.
func TestRestoreLeavesASwitchedOffHostAlone(t *testing.T) {
	freshNetNS(t)
	done, err := Apply(plan(t, Forwarding{IPv4: true}))
	if err != nil {
		t.Fatal(err)
	}
	set(t, "net/ipv4/ip_forward", "0", "net/ipv4/conf/lan/forwarding", "1")
	before := everything(t)
	if _, _, err := Restore(done); err != nil {
		t.Fatal(err)
	}
	same(t, before, everything(t))
}

func TestRestoreOfAVanishedInterface(t *testing.T) {
	freshNetNS(t)
	set(t, "net/ipv4/conf/lan/forwarding", "1", "net/ipv6/conf/lan/forwarding", "1")
	done, err := Apply(plan(t, Forwarding{IPv4: true, IPv6: true}, "lan"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "del", "lan")
	restored, kept, err := Restore(done)
	if err != nil || len(kept) != 0 || len(restored) != 2 {
		t.Fatalf("restored %v, kept %v, %v", restored, kept, err)
	}
}

// Somebody else turned forwarding on between the plan and the apply: it is not
// ours to turn off.
func TestApplyOfAStalePlan(t *testing.T) {
	freshNetNS(t)
	changes := plan(t, Forwarding{IPv4: true})
	set(t, "net/ipv4/ip_forward", "1")
	done, err := Apply(changes)
	if err != nil || len(done) != 0 {
		t.Fatalf("done %v, %v", done, err)
	}
}

func TestApplyStopsAndSaysWhatWasDone(t *testing.T) {
	freshNetNS(t)
	done, err := Apply([]Change{
		{Name: "net/ipv4/ip_forward", Before: "0", After: "1"},
		{Name: "net/ipv4/conf/gone/forwarding", Before: "0", After: "1"},
		{Name: "net/ipv4/conf/lan/rp_filter", Before: "0", After: "2"},
	})
	if err == nil || len(done) != 1 || done[0].Name != "net/ipv4/ip_forward" {
		t.Fatalf("done %v, %v", done, err)
	}
	if _, _, err := Restore(done); err != nil {
		t.Fatal(err)
	}
	if value, _ := Get("net/ipv4/ip_forward"); value != "0" {
		t.Errorf("ip_forward is %q", value)
	}
	// The kernel clamps nothing here, but reads back another number.
	done, err = Apply([]Change{{Name: "net/ipv4/conf/lan/rp_filter", Before: "0", After: "0x2"}})
	if err == nil || !strings.Contains(err.Error(), `reads "2"`) || len(done) != 1 || done[0].After != "2" {
		t.Fatalf("done %v, %v", done, err)
	}
}
