package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	historyName = "history.json"
	// historyEntries bounds the history, and storedPolicies how many of the
	// policies in it are kept.
	historyEntries = 100
	storedPolicies = 10
)

// History is what was applied, oldest first.
type History struct {
	FormatVersion int     `json:"format_version"`
	Entries       []Entry `json:"entries"`
}

// Result is what became of an apply.
type Result string

// The results. Of an apply without a window, Applied is the last.
const (
	ResultApplied     Result = "applied"
	ResultUnconfirmed Result = "unconfirmed"
	ResultConfirmed   Result = "confirmed"
	ResultRolledBack  Result = "rolled back"
	ResultFailed      Result = "failed"
)

// Entry is one apply, or one rollback to an earlier policy.
type Entry struct {
	Time time.Time `json:"time"`
	By   By        `json:"by"`
	// Digest is "" where nothing was put in force: a rollback to before the
	// first apply.
	Digest  string   `json:"digest,omitempty"`
	Files   []string `json:"files,omitempty"`
	Summary string   `json:"summary,omitempty"` // what it changed, in one line
	Result  Result   `json:"result"`
	// Ended is when the result came about, EndedBy whose doing it was, and Why
	// the reason; zero where they are those of the apply itself.
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy *By       `json:"ended_by,omitempty"`
	Why     string    `json:"why,omitempty"`
}

// By is who ran a command.
type By struct {
	UID int `json:"uid"`
	// Login is the user who logged in, where the kernel's audit knows, and Sudo
	// the name of the one who ran sudo.
	Login   *uint32 `json:"login_uid,omitempty"`
	Sudo    string  `json:"sudo_user,omitempty"`
	Command string  `json:"command,omitempty"`
}

// LoadHistory reads the history; without a file it is empty. What cannot be
// believed in full is a [*CorruptError].
func (d *Dir) LoadHistory() (*History, error) {
	path := filepath.Join(d.path, historyName)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &History{FormatVersion: FormatVersion}, nil
	case err != nil:
		var inner *fs.PathError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, corrupt(path, "cannot be read", err)
	}
	return decodeHistory(path, text)
}

func decodeHistory(path string, text []byte) (*History, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var h History
	var foreign *json.UnmarshalTypeError
	switch err := decoder.Decode(&h); {
	case errors.As(err, &foreign):
		return nil, corrupt(path, "is none of ipmasq's", err)
	case err != nil:
		return nil, corrupt(path, "is cut off or damaged", err)
	case h.FormatVersion > FormatVersion:
		return nil, &CorruptError{Path: path, Newer: true,
			Reason: fmt.Sprintf("was written by a newer ipmasq (format_version %d, this one knows %d)", h.FormatVersion, FormatVersion)}
	case h.FormatVersion != FormatVersion:
		return nil, corrupt(path, "is none of ipmasq's", nil)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, corrupt(path, "goes on after its end", nil)
	}
	for _, e := range h.Entries {
		if e.Digest != "" {
			if err := checkDigest(e.Digest); err != nil {
				return nil, corrupt(path, "makes no sense", err)
			}
		}
	}
	return &h, nil
}

// SaveHistory writes the last entries of a history.
func (d *Dir) SaveHistory(h *History) error {
	target := filepath.Join(d.path, historyName)
	trimmed := History{FormatVersion, h.Entries[max(0, len(h.Entries)-historyEntries):]}
	text, err := json.MarshalIndent(trimmed, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if err := d.sweep(historyName); err != nil {
		return err
	}
	path, err := writeTemporary(target, func(file *os.File) error {
		_, err := file.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	if err := os.Rename(path, target); err != nil {
		os.Remove(path)
		return writeFailed("write", target, linkCause(err))
	}
	if err := syncDir(d.path); err != nil {
		return writeFailed("sync the state folder", d.path, err)
	}
	return nil
}

// kept are the policies that are stored for the history's sake. One that cannot
// be read keeps none.
func (d *Dir) kept() []string {
	h, err := d.LoadHistory()
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range slices.Backward(h.Entries) {
		if len(out) == storedPolicies {
			break
		}
		if e.Digest != "" && e.Result != ResultFailed && !slices.Contains(out, e.Digest) {
			out = append(out, e.Digest)
		}
	}
	return out
}
