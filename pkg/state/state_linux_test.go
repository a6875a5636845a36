package state

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "ipmasq"))
	must(t, err)
	must(t, d.create())
	return d
}

func savePolicy(t testing.TB, d *Dir, text string) string {
	t.Helper()
	digest, err := d.SavePolicy([]Source{{Name: "policy.yaml", Text: []byte(text)}})
	must(t, err)
	return digest
}

// example is a state whose policies are stored in d.
func example(t testing.TB, d *Dir) State {
	t.Helper()
	applied := func(text string, hour int) *Applied {
		return &Applied{Digest: savePolicy(t, d, text), Time: time.Date(2025, 6, 1, hour, 0, 0, 0, time.UTC),
			Files: []File{{Name: "/etc/ipmasq/policy.yaml", Bytes: len(text)}}}
	}
	return State{
		Applied:  applied("zones: {}", 12),
		Previous: applied("zones: []", 11),
		NetNS:    "4026531833:4@0b0c8ed4-5ac9-4ca3-8a50-9a25ee8ef4b1",
		Backend:  "nftables",
		Sysctls:  []Sysctl{{Name: "net/ipv4/ip_forward", Before: "0", After: "1"}},
	}
}

func files(t testing.TB, d *Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(d.Path())
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func load(t testing.TB, d *Dir) State {
	t.Helper()
	s, err := d.Load()
	must(t, err)
	return *s
}

func TestSaveAndLoad(t *testing.T) {
	d := openDir(t)
	if s := load(t, d); !reflect.DeepEqual(s, State{}) {
		t.Errorf("without a file: %+v", s)
	}
	want := example(t, d)
	must(t, d.Save(want))
	if got := load(t, d); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	info, err := os.Stat(filepath.Join(d.Path(), stateName))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// What an apply still has to cut is remembered with the policies that it needs
// for that, and so is one that was stored by an apply that died.
func TestPending(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	must(t, d.Save(s))
	if names := d.Unnamed(&s); len(names) != 0 {
		t.Errorf("unnamed: %v", names)
	}
	died := savePolicy(t, d, "masquerade: []")
	if names := d.Unnamed(&s); !slices.Equal(names, []string{died}) {
		t.Errorf("unnamed: %v, want %v", names, died)
	}
	s.Pending = &Pending{Before: []string{died, s.Applied.Digest}}
	s.Previous = nil
	must(t, d.Save(s))
	if got := load(t, d); !reflect.DeepEqual(got, s) {
		t.Errorf("got  %+v\nwant %+v", got, s)
	}
	if _, err := d.LoadPolicy(died); err != nil {
		t.Error(err)
	}
	s.Pending = &Pending{}
	must(t, d.Save(s))
	if got := load(t, d); got.Pending == nil || len(got.Pending.Before) != 0 {
		t.Errorf("got %+v", got.Pending)
	}
	s.Pending.Before = []string{"short"}
	if d.Save(s) == nil {
		t.Error("saved a digest that is none")
	}
}

func TestTimeIsKeptInSecondsOfUTC(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	when := time.Date(2025, 6, 1, 14, 0, 0, 123456789, time.FixedZone("CEST", 7200))
	s.Applied.Time = when
	must(t, d.Save(s))
	if got := load(t, d).Applied.Time; !got.Equal(when.Truncate(time.Second)) || got.Location() != time.UTC {
		t.Errorf("got %v", got)
	}
	if !s.Applied.Time.Equal(when) {
		t.Error("the caller's state was changed")
	}
	text, err := os.ReadFile(filepath.Join(d.Path(), stateName))
	must(t, err)
	if !bytes.Contains(text, []byte(`"time": "2025-06-01T12:00:00Z"`)) {
		t.Errorf("%s", text)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lib", "ipmasq")
	d, err := Open(path)
	must(t, err)
	if s := load(t, d); !reflect.DeepEqual(s, State{}) {
		t.Errorf("without a folder: %+v", s)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking made a folder: %v", err)
	}
	unlock, err := d.Lock(t.Context(), nil)
	must(t, err)
	unlock()
	info, err := os.Stat(d.Path())
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if _, err := Open(filepath.Join(dir, "file")); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("of a file: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(dir, "shared"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "shared"), 0o770))
	if _, err := Open(filepath.Join(dir, "shared")); err == nil || !strings.Contains(err.Error(), "others can write to it") {
		t.Errorf("of a shared folder: %v", err)
	}
	if os.Geteuid() == 0 {
		must(t, os.Mkdir(filepath.Join(dir, "theirs"), 0o700))
		must(t, os.Chown(filepath.Join(dir, "theirs"), 65534, 65534))
		if _, err := Open(filepath.Join(dir, "theirs")); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("of another's folder: %v", err)
		}
	}
}

// A disk that lost the end of the file: at every length Load gives the whole
// state or says which file is broken.
func TestLoadOfEveryTruncation(t *testing.T) {
	d := openDir(t)
	want := example(t, d)
	must(t, d.Save(want))
	path := filepath.Join(d.Path(), stateName)
	text, err := os.ReadFile(path)
	must(t, err)
	for n := range len(text) {
		must(t, os.WriteFile(path, text[:n], 0o600))
		got, err := d.Load()
		var broken *CorruptError
		switch {
		case err == nil:
			if !reflect.DeepEqual(*got, want) {
				t.Fatalf("cut at %d: half a state: %+v", n, got)
			}
			if n < len(text)-1 {
				t.Fatalf("cut at %d: still whole?", n)
			}
		case !errors.As(err, &broken) || broken.Path != path || !strings.Contains(err.Error(), path):
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	// The end never arrived, but the length did.
	for n := range len(text) - 1 {
		torn := append(slices.Clone(text[:n]), make([]byte, len(text)-n)...)
		must(t, os.WriteFile(path, torn, 0o600))
		var broken *CorruptError
		if _, err := d.Load(); !errors.As(err, &broken) {
			t.Fatalf("zeros from %d: %v", n, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "is empty"},
		{"blank", " \n", "is empty"},
		{"newer", `{"format_version": 2, "applied": 7}`, "was written by a newer ipmasq (format_version 2, this one knows 1): use that version"},
		{"older than any", `{"format_version": 0}`, "has format_version 0, which never was"},
		{"another program's", `{"version": 3}`, "has no format_version"},
		{"not an object", `[1, 2]`, "is none of ipmasq's"},
		{"null", `null`, "has no format_version"},
		{"a version in words", `{"format_version": "one"}`, "is none of ipmasq's"},
		{"a field from elsewhere", `{"format_version": 1, "extra": 1}`, "does not have the fields of a state"},
		{"two states", `{"format_version": 1}{"format_version": 1}`, "is cut off or damaged"},
		{"not JSON", "\x1f\x8b\x08", "is cut off or damaged"},
		{"a digest that is a path", `{"format_version": 1, "applied": {"digest": "../../../etc/passwd", "time": "2025-06-01T12:00:00Z"}}`, "is not the digest of a policy"},
		{"a digest in capitals", `{"format_version": 1, "applied": {"digest": "` + strings.ToUpper(digest) + `", "time": "2025-06-01T12:00:00Z"}}`, "is not the digest of a policy"},
		{"no time", `{"format_version": 1, "applied": {"digest": "` + digest + `"}}`, "no time of applying"},
		{"a bad time", `{"format_version": 1, "applied": {"digest": "` + digest + `", "time": "yesterday"}}`, "does not have the fields of a state"},
		{"a nameless sysctl", `{"format_version": 1, "sysctls": [{"before": "0"}]}`, "a sysctl without a name"},
		{"a nameless file", `{"format_version": 1, "applied": {"digest": "` + digest + `", "time": "2025-06-01T12:00:00Z", "files": [{}]}}`, "a file without a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := openDir(t)
			path := filepath.Join(d.Path(), stateName)
			must(t, os.WriteFile(path, []byte(c.text), 0o600))
			s, err := d.Load()
			var broken *CorruptError
			if s != nil || !errors.As(err, &broken) || !strings.Contains(err.Error(), path+" ") || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "move ") {
				t.Errorf("got %v, %v", s, err)
			}
			if broken != nil && broken.Newer != (c.name == "newer") {
				t.Errorf("newer: %v", broken.Newer)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		d := openDir(t)
		must(t, os.Mkdir(filepath.Join(d.Path(), stateName), 0o700))
		var broken *CorruptError
		if _, err := d.Load(); !errors.As(err, &broken) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format_version": 1}`))
	f.Add([]byte(`{"format_version": 1, "sysctls": [{"name": "a", "before": "0", "after": "1"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(stateName, text)
		if (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
		if err == nil {
			if _, err := s.encode(); err != nil {
				t.Fatalf("read but not writable: %v", err)
			}
		}
	})
}

func TestStage(t *testing.T) {
	d := openDir(t)
	first := example(t, d)
	must(t, d.Save(first))
	second := State{Applied: first.Previous, Backend: "nftables"}

	staged, err := d.Stage(second)
	must(t, err)
	if got := load(t, d); !reflect.DeepEqual(got, first) {
		t.Errorf("staging alone changed the state: %+v", got)
	}
	must(t, staged.Discard())
	must(t, staged.Discard())
	if err := staged.Commit(); err == nil {
		t.Error("committed what was discarded")
	}
	if got := load(t, d); !reflect.DeepEqual(got, first) {
		t.Errorf("discarding changed the state: %+v", got)
	}

	staged, err = d.Stage(second)
	must(t, err)
	must(t, staged.Commit())
	must(t, staged.Discard())
	if got := load(t, d); !reflect.DeepEqual(got, second) {
		t.Errorf("got %+v", got)
	}
	want := []string{policyName(second.Applied.Digest), stateName}
	if got := files(t, d); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestStageRefuses(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	s.Previous = &Applied{Digest: strings.Repeat("0", 64), Time: s.Applied.Time}
	if _, err := d.Stage(s); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "its policy is not stored") {
		t.Errorf("a policy that is not stored: %v", err)
	}
	s.Previous.Digest = "short"
	if _, err := d.Stage(s); err == nil {
		t.Error("staged a digest that is none")
	}
}

func TestStageSweepsWhatAKilledProcessLeft(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	for _, name := range []string{stateName + temporary + "1", policyName(s.Applied.Digest) + temporary + "22"} {
		must(t, os.WriteFile(filepath.Join(d.Path(), name), []byte("half"), 0o600))
	}
	for _, name := range []string{"notes.tmp-1", "notes"} { // not ours
		must(t, os.WriteFile(filepath.Join(d.Path(), name), nil, 0o600))
	}
	must(t, d.Save(s))
	want := []string{"notes", "notes.tmp-1", policyName(s.Applied.Digest), policyName(s.Previous.Digest), stateName}
	slices.Sort(want)
	if got := files(t, d); !slices.Equal(got, want) {
		t.Errorf("files %v\nwant  %v", got, want)
	}
}

func TestRemove(t *testing.T) {
	d := openDir(t)
	must(t, d.Remove())
	must(t, d.Save(example(t, d)))
	unlock, err := d.Lock(t.Context(), nil)
	must(t, err)
	must(t, d.Remove())
	unlock()
	if got := files(t, d); !slices.Equal(got, []string{lockName}) {
		t.Errorf("left %v", got)
	}
	if s := load(t, d); !reflect.DeepEqual(s, State{}) {
		t.Errorf("left %+v", s)
	}
}

func TestRandomDamageNeverPanics(t *testing.T) {
	d := openDir(t)
	must(t, d.Save(example(t, d)))
	path := filepath.Join(d.Path(), stateName)
	text, err := os.ReadFile(path)
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		damaged := slices.Clone(text)
		for range 1 + random.IntN(4) {
			damaged[random.IntN(len(damaged))] = byte(random.IntN(256))
		}
		must(t, os.WriteFile(path, damaged, 0o600))
		if s, err := d.Load(); (s == nil) == (err == nil) {
			t.Fatalf("%v, %v", s, err)
		}
	}
}
