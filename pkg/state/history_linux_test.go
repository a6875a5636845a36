package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func historyOf(t testing.TB, d *Dir, n int) *History {
	t.Helper()
	h := &History{FormatVersion: FormatVersion}
	for i := range n {
		h.Entries = append(h.Entries, Entry{Time: time.Date(2025, 6, 1, 12, i, 0, 0, time.UTC), By: By{UID: 0, Sudo: "admin", Command: "ipmasq apply"},
			Digest: savePolicy(t, d, fmt.Sprintf("zones: {} # %d", i)), Summary: "1 to add, 0 to change, 0 to remove", Result: ResultApplied})
	}
	return h
}

func TestHistoryIsBounded(t *testing.T) {
	d := openDir(t)
	if h, err := d.LoadHistory(); err != nil || len(h.Entries) != 0 {
		t.Errorf("without a file: %+v, %v", h, err)
	}
	h := historyOf(t, d, historyEntries+7)
	h.Entries[len(h.Entries)-1].Result = ResultFailed
	must(t, d.SaveHistory(h))
	got, err := d.LoadHistory()
	must(t, err)
	if !reflect.DeepEqual(got.Entries, h.Entries[7:]) {
		t.Errorf("%d entries, the first %+v", len(got.Entries), got.Entries[0])
	}
	// Of these the policies of the last are kept, but not of what failed.
	must(t, d.Save(State{}))
	var want []string
	for _, e := range h.Entries[len(h.Entries)-1-storedPolicies : len(h.Entries)-1] {
		want = append(want, e.Digest[:shownDigits])
	}
	slices.Sort(want)
	if stored := d.Stored(); !slices.Equal(stored, want) {
		t.Errorf("stored are %v, want %v", stored, want)
	}
	if unnamed := d.Unnamed(&State{}); len(unnamed) != 0 {
		t.Errorf("what the history names counts as left by a crash: %v", unnamed)
	}
	must(t, d.Forget())
	if _, err := os.Stat(filepath.Join(d.Path(), historyName)); err != nil {
		t.Errorf("forgetting takes the history too: %v", err)
	}
	must(t, d.Remove())
	if left := files(t, d); !slices.Equal(left, []string{}) && len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// A history that is torn, or none of ours, is an error that says how to go on;
// the state can be read and saved all the same.
func TestBrokenHistory(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	must(t, d.Save(s))
	must(t, d.SaveHistory(historyOf(t, d, 3)))
	path := filepath.Join(d.Path(), historyName)
	text, err := os.ReadFile(path)
	must(t, err)
	broken := []string{"", "null", "[]", "{}", `{"format_version": 2}`, `{"format_version": 1, "entries": [{"digest": "../x"}]}`, string(text) + "{}", "\x00\x00"}
	for n := 0; n < len(text)-2; n += 7 {
		broken = append(broken, string(text[:n]))
	}
	for _, b := range broken {
		must(t, os.WriteFile(path, []byte(b), 0o600))
		var corrupt *CorruptError
		if h, err := d.LoadHistory(); !errors.As(err, &corrupt) || h != nil || !strings.Contains(err.Error(), "move ") {
			t.Errorf("%.40q: %v, %v", b, h, err)
		}
		if got := load(t, d); !reflect.DeepEqual(got, s) {
			t.Errorf("%.40q: the state is %+v", b, got)
		}
		must(t, d.Save(s))
	}
}

// Who guards is known as long as it lives, and asking does not disturb it.
func TestGuard(t *testing.T) {
	d := openDir(t)
	if d.Guarded() {
		t.Error("guarded by nobody")
	}
	first, err := d.Guard()
	must(t, err)
	second, err := d.Guard()
	must(t, err)
	for range 3 {
		if !d.Guarded() {
			t.Error("not guarded by two")
		}
	}
	first()
	if !d.Guarded() {
		t.Error("not guarded by one of two")
	}
	second()
	if d.Guarded() {
		t.Error("still guarded")
	}
}

func TestWatch(t *testing.T) {
	d := openDir(t)
	changes, stop, err := d.Watch()
	must(t, err)
	must(t, d.Save(State{Backend: "nftables"}))
	select {
	case <-changes:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told of a state that is saved")
	}
	stop()
	for range changes { // until it is closed
	}
}

func TestUnconfirmedIsKept(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	s.Unconfirmed = &Unconfirmed{ID: "1", Digest: s.Applied.Digest, Boot: "b", Deadline: time.Minute, Window: time.Second, Back: s.Previous,
		BackPrevious: &Applied{Digest: savePolicy(t, d, "zones: {} # older"), Time: s.Previous.Time}}
	s.Withdrawn = strings.Repeat("ab", 32) // need not be stored
	must(t, d.Save(s))
	if got := load(t, d); !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, want %+v", got, s)
	}
	if len(d.Stored()) != 3 {
		t.Errorf("stored are %v", d.Stored())
	}
	for name, spoil := range map[string]func(u *Unconfirmed){
		"no id": func(u *Unconfirmed) { u.ID = "" }, "no boot": func(u *Unconfirmed) { u.Boot = "" },
		"no deadline": func(u *Unconfirmed) { u.Deadline = 0 }, "a path": func(u *Unconfirmed) { u.Digest = "../x" },
	} {
		bad := *s.Unconfirmed
		spoil(&bad)
		if err := d.Save(State{Unconfirmed: &bad}); err == nil {
			t.Errorf("%s is saved", name)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"format_version": 1, "entries": [{"time": "2025-06-01T12:00:00Z", "by": {"uid": 0}, "result": "applied"}]}`))
	f.Add([]byte(`{"format_version": 1, "entries": null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := decodeHistory(historyName, text)
		if (h == nil) == (err == nil) {
			t.Fatalf("%v, %v", h, err)
		}
	})
}
