package sysctl

import (
	"errors"
	"testing"
)

const (
	acct = "net/netfilter/nf_conntrack_acct"
	udp  = "net/netfilter/nf_conntrack_udp_timeout"
)

func mustSettings(t *testing.T, want []Setting, remembered ...Change) []Change {
	t.Helper()
	changes, err := SettingChanges(want, remembered)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// What has its value already is not ours; what has not is written, and goes
// back when it is no longer wanted.
func TestSettings(t *testing.T) {
	freshNetNS(t)
	set(t, acct, "0", udp, "30")
	want := []Setting{{acct, "1", "a policy"}, {udp, "30", "a policy"}}
	changes := mustSettings(t, want)
	if len(changes) != 1 || changes[0] != (Change{Name: acct, Before: "0", After: "1", Why: "a policy", Kind: Sets}) {
		t.Fatalf("%+v", changes)
	}
	done, err := Apply(changes)
	if err != nil || len(done) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if again := mustSettings(t, want, done...); len(again) != 0 {
		t.Errorf("a second time: %+v", again)
	}
	back := mustSettings(t, want[1:], done...)
	if len(back) != 1 || back[0].Before != "1" || back[0].After != "0" || back[0].Kind != Releases {
		t.Errorf("no longer wanted: %+v", back)
	}
	if _, err := Apply(back); err != nil {
		t.Error(err)
	}
	if v, _ := Get(acct); v != "0" {
		t.Errorf("%s is %s", acct, v)
	}
}

// What somebody else has made of it stays; what a killed apply may have left
// does not.
func TestSettingsOfOthersStay(t *testing.T) {
	freshNetNS(t)
	killed := Change{Name: udp, Before: "30", After: "60", Last: "50", Kind: Sets}
	for now, after := range map[string]string{"30": "30", "50": "30", "60": "30", "77": "77"} {
		set(t, udp, now)
		back := mustSettings(t, nil, killed)
		if len(back) != 1 || back[0].Before != now || back[0].After != after {
			t.Errorf("from %s: %+v, want %s", now, back, after)
		}
		if _, _, err := Restore([]Change{killed}); err != nil {
			t.Error(err)
		}
		if v, _ := Get(udp); v != after {
			t.Errorf("restored from %s: %s, want %s", now, v, after)
		}
	}
	if changes := mustSettings(t, nil, Change{Name: "net/ipv4/ip_forward", Before: "0", After: "1"}); len(changes) != 0 {
		t.Errorf("forwarding goes with a policy: %+v", changes)
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	freshNetNS(t)
	if _, err := SettingChanges([]Setting{{"net/netfilter/no_such", "1", "a policy"}}, nil); !errors.Is(err, ErrAbsent) {
		t.Errorf("got %v, want ErrAbsent", err)
	}
	back := mustSettings(t, nil, Change{Name: "net/ipv4/conf/gone/rp_filter", Before: "1", After: "2", Kind: Sets})
	if len(back) != 1 || back[0].Writes() {
		t.Errorf("of a link that is gone: %+v", back)
	}
	if !Fixed("net/netfilter/nf_conntrack_max") || Fixed(acct) || Fixed("net/netfilter/no_such") {
		t.Error("what a namespace may write is not known")
	}
}
