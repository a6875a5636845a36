package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// temporary stands between a file's name and a number while it is written.
const temporary = ".tmp-"

// Staged is a state that is on the disk, whole, but not yet the state.
type Staged struct {
	dir   *Dir
	path  string // temporary name, "" once committed or discarded
	state State
}

// Stage writes a state beside the one that counts, so that what can fail (a
// full disk above all) fails here, before the kernel is touched. Exactly one
// of Commit and Discard follows. The policies that it names must be stored.
func (d *Dir) Stage(s State) (*Staged, error) {
	target := filepath.Join(d.path, stateName)
	text, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("write state %s: %w", target, err)
	}
	for _, digest := range s.policies() {
		_, err := os.Stat(d.policyPath(digest))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("write state %s: its policy is not stored: %w", target, err)
		}
		if err != nil {
			return nil, writeFailed("write state", target, err)
		}
	}
	if err := d.sweep(""); err != nil {
		return nil, err
	}
	path, err := writeTemporary(target, func(file *os.File) error {
		_, err := file.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Staged{dir: d, path: path, state: s}, nil
}

// Commit makes the staged state the state, for good when it returns nil, and
// drops the policies that neither it nor the history names. After an error Load tells which
// state counts.
func (s *Staged) Commit() error {
	if s.path == "" {
		return errors.New("commit state: already committed or discarded")
	}
	target := filepath.Join(s.dir.path, stateName)
	if err := os.Rename(s.path, target); err != nil {
		return writeFailed("replace state", target, linkCause(err))
	}
	s.path = ""
	if err := syncDir(s.dir.path); err != nil {
		return writeFailed("sync the state folder", s.dir.path, err)
	}
	// What could not be removed is tried again next time.
	if s.state.Unconfirmed == nil {
		os.Remove(filepath.Join(s.dir.path, backName))
	}
	s.dir.dropPolicies(append(s.state.policies(), s.dir.kept()...))
	return nil
}

// Discard gives a staged state up. After Commit it does nothing, so it can be
// deferred.
func (s *Staged) Discard() error {
	if s.path == "" {
		return nil
	}
	err := os.Remove(s.path)
	s.path = ""
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard state: %w", err)
	}
	return nil
}

// Save is Stage and Commit.
func (d *Dir) Save(s State) error {
	staged, err := d.Stage(s)
	if err != nil {
		return err
	}
	defer staged.Discard()
	return staged.Commit()
}

// Forget forgets everything but the history, state first, and keeps the folder
// and its lock.
func (d *Dir) Forget() error {
	for i, name := range []string{stateName, rulesName, backName} {
		path := filepath.Join(d.path, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return writeFailed("remove", path, err)
		}
		if i > 0 {
			continue
		}
		if err := syncDir(d.path); err != nil {
			return writeFailed("sync the state folder", d.path, err)
		}
	}
	if err := d.dropPolicies(d.kept()); err != nil {
		return err
	}
	return d.sweep("")
}

// Remove is Forget, and the history goes too.
func (d *Dir) Remove() error {
	path := filepath.Join(d.path, historyName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return writeFailed("remove", path, err)
	}
	return d.Forget()
}

// sweep removes what killed processes left behind: temporary files whose names
// begin with prefix.
func (d *Dir) sweep(prefix string) error {
	return d.removeMatching(func(name string) bool {
		return strings.HasPrefix(name, prefix) && strings.Contains(name, temporary) &&
			(strings.HasPrefix(name, stateName) || strings.HasPrefix(name, policyPrefix) || strings.HasPrefix(name, rulesName) || strings.HasPrefix(name, historyName))
	})
}

func (d *Dir) removeMatching(match func(name string) bool) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return writeFailed("list the state folder", d.path, err)
	}
	for _, entry := range entries {
		if !match(entry.Name()) {
			continue
		}
		path := filepath.Join(d.path, entry.Name())
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return writeFailed("remove", path, err)
		}
	}
	return nil
}

// writeTemporary writes a file beside target, synced, and gives its name. When
// it fails nothing is left.
func writeTemporary(target string, write func(*os.File) error) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(target), filepath.Base(target)+temporary+"*")
	if err != nil {
		return "", writeFailed("write", target, err)
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		os.Remove(file.Name())
		return "", writeFailed("write", target, err)
	}
	return file.Name(), nil
}

// linkCause is the cause of a failed rename; the paths are said anyway.
func linkCause(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
