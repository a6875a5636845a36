package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A folder has one daemon at a time, and only what a living one says counts.
func TestDaemon(t *testing.T) {
	t.Parallel()
	dir, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	none := func() {
		t.Helper()
		if d, err := dir.LoadDaemon(); d != nil || err != nil {
			t.Errorf("without a daemon: %+v, %v", d, err)
		}
	}
	none()
	release, err := dir.HoldDaemon()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := dir.LoadDaemon(); err != nil || d == nil || d.PID != 0 {
		t.Errorf("before it says anything: %+v, %v", d, err)
	}
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	said := Daemon{PID: 77, Since: at, Files: []string{"a.yaml"}, Problem: "a.yaml:1:1: no", ProblemSince: &at, Owns: true}
	if err := dir.SaveDaemon(said); err != nil {
		t.Fatal(err)
	}
	got, err := dir.LoadDaemon()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(said, *got); diff != "" {
		t.Error(diff)
	}
	if _, err := dir.HoldDaemon(); !errors.Is(err, ErrDaemonRuns) || !strings.Contains(err.Error(), "pid 77") {
		t.Errorf("a second one: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir.Path(), daemonName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := dir.LoadDaemon(); !errors.As(err, &corrupt) {
		t.Errorf("a torn file: %v", err)
	}
	release()
	none()
	// One that was killed has left its file.
	if err := dir.SaveDaemon(said); err != nil {
		t.Fatal(err)
	}
	none()
	if again, err := dir.HoldDaemon(); err != nil {
		t.Error(err)
	} else {
		again()
	}
}
