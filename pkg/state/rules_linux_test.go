package state

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestRules(t *testing.T) {
	d := openDir(t)
	if _, err := d.LoadRules("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are rules before any were saved: %v", err)
	}
	for _, text := range []string{"", "a\nb\x00", strings.Repeat("long", 1<<16)} {
		if err := d.SaveRules("key", write(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.LoadRules("key"); err != nil || string(got) != text {
			t.Errorf("loaded %d bytes of %d: %v", len(got), len(text), err)
		}
	}
	for _, key := range []string{"", "ke", "key2", "other"} {
		if _, err := d.LoadRules(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("under the key %q: %v", key, err)
		}
	}

	// What cannot be written leaves what was there, and nothing besides.
	for _, failing := range []func(io.Writer) error{
		func(io.Writer) error { return syscall.EIO },
		func(w io.Writer) error { return errors.Join(write(strings.Repeat("x", 1<<20))(w), syscall.EIO) },
	} {
		if err := d.SaveRules("new", failing); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := d.LoadRules("key"); err != nil {
		t.Error(err)
	}
	if names := listed(t, d); names != "rules" {
		t.Errorf("the folder holds %s", names)
	}

	// What a killed process left goes with the next one that writes.
	if err := os.WriteFile(filepath.Join(d.Path(), "rules.tmp-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(State{}); err != nil {
		t.Fatal(err)
	}
	if names := listed(t, d); names != "rules state.json" {
		t.Errorf("the folder holds %s", names)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if names := listed(t, d); names != "" {
		t.Errorf("after Remove the folder holds %s", names)
	}
}

func listed(t *testing.T, d *Dir) string {
	t.Helper()
	entries, err := os.ReadDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
