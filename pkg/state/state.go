// Package state remembers on disk what rollback and delete need: the policies
// applied now and before, who applied them, and the sysctls as they were. What is in force is
// the kernel's to say, never this package's.
//
// One folder (0700, owned by the user that runs ipmasq) holds
//
//	state.json               the State, one JSON object with format_version
//	policy-<16 hex>.gz       one policy's sources; the name is the start of its
//	                         digest, the content what the digest is made of
//	history.json             the History: what was applied when, by whom, and what
//	                         became of it; the last 100, of which the policies of
//	                         the last 10 are stored. Nothing else depends on it
//	rules                    what was last read back of the kernel, which spares
//	                         reading it again; believed only while it fits
//	rules-back               the same, of before a policy that has to be confirmed
//	lock                     flock(2)ed by whoever changes anything; its text
//	                         says who that is, and means nothing when unlocked;
//	                         programs that commit for him have the lock too
//	.                        the folder itself is flock(2)ed, shared, by whoever
//	                         guards a policy that is not confirmed
//	daemon.json, daemon.lock what the running daemon says of itself, for status,
//	                         and a lock that it holds for as long as it lives
//	<one of these>.tmp-<n>   being written; left behind by a process that was
//	                         killed, and swept by the next to write
//
// Files are written whole to a temporary name, synced and renamed, policies
// before the state that names them. So whenever the machine stops, state.json
// is the old one or the new one, and every policy that it names is there. One
// that it does not name is of an apply that did not come to its end.
//
// Reading needs no lock, and no folder. What writes, but for Lock and Guard, needs
// the lock: they sweep what no one else can be writing.
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
	"sync/atomic"
	"time"
)

// FormatVersion is the only format of state.json that is read or written.
const FormatVersion = 1

const (
	stateName = "state.json"
	lockName  = "lock"
)

// State is all that is remembered. The zero State is a host on which nothing
// was applied.
type State struct {
	// Applied is the policy of the last apply, Previous the one that rollback
	// goes back to; nil where there is none.
	Applied  *Applied `json:"applied,omitempty"`
	Previous *Applied `json:"previous,omitempty"`
	// NetNS is the identity of the network namespace that all this is about.
	NetNS string `json:"netns,omitempty"`
	// Backend is the name of the backend that holds the rules.
	Backend string `json:"backend,omitempty"`
	// Also are further backends that may hold rules: of an apply that was to
	// put another one in its place and has not come to its end.
	Also []string `json:"also,omitempty"`
	// Rules is the digest of the rules that were last read back from the
	// kernel, and Generation the kernel's number for them then. While it is
	// the same, so are the rules.
	Rules      string `json:"rules,omitempty"`
	Generation uint32 `json:"generation,omitempty"`
	// Sysctls are those that ipmasq has written, in the order of writing.
	Sysctls []Sysctl `json:"sysctls,omitempty"`
	// Docker says that rules of ours may be in the chains that Docker leaves to
	// users.
	Docker bool `json:"docker,omitempty"`
	// Pending is there from an apply that changes rules until it has cut the
	// flows that they contradict.
	Pending *Pending `json:"pending,omitempty"`
	// Unconfirmed is there while the policy goes back by itself unless somebody
	// confirms it.
	Unconfirmed *Unconfirmed `json:"unconfirmed,omitempty"`
	// Withdrawn is the digest of the policy that the last rollback left, or "".
	// Its files may still be there: at boot they are not applied again.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Lapsed is what was unconfirmed when the machine stopped.
	Lapsed *Unconfirmed `json:"-"`
}

// Pending says that flows are open that the policy may contradict.
type Pending struct {
	// Before are the digests of the policies that may have translated them, in
	// the order in which they were in force.
	Before []string `json:"before,omitempty"`
}

// Applied is one policy that was applied.
type Applied struct {
	Digest string    `json:"digest"` // names the stored sources, see SavePolicy
	Time   time.Time `json:"time"`   // UTC, to the second
	Files  []File    `json:"files"`  // in the order in which they were read
}

// File is one source of a policy, for people to read.
type File struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

// Sysctl is one value to put back, as long as it still is After.
type Sysctl struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
	// Policy is one that goes back as soon as no policy says its value.
	Policy bool `json:"policy,omitempty"`
	// Last is After of the apply before, while After is not known to have been
	// written.
	Last string `json:"last,omitempty"`
}

// onDisk is state.json.
type onDisk struct {
	FormatVersion int `json:"format_version"`
	State
}

// Dir is an open state folder.
type Dir struct {
	path string
	lock atomic.Pointer[os.File] // that this process has
}

// Open opens the state folder: one that is not there is a host that nothing is
// remembered of, and Lock creates it; one that somebody else could have written
// to is refused.
func Open(dir string) (*Dir, error) {
	if err := supported(); err != nil {
		return nil, fmt.Errorf("state folder %s: %w", dir, err)
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w", dir, err)
	}
	d := &Dir{path: path}
	if err := d.check(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d, nil
}

// create makes the folder, with its parents, where it is not there.
func (d *Dir) create() error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return writeFailed("create the state folder", d.path, err)
	}
	if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return writeFailed("create the state folder", d.path, err)
	}
	return d.check()
}

// check refuses what is no folder, or not ours alone.
func (d *Dir) check() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return writeFailed("look at the state folder", d.path, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("state folder %s: is a file: move it away, or give another --state-dir", d.path)
	}
	return checkOwner(d.path, info)
}

// Path is the folder, absolute.
func (d *Dir) Path() string { return d.path }

// Load reads the state. A host without one has the zero State. What cannot be
// believed in full is a [*CorruptError] and no State.
func (d *Dir) Load() (*State, error) {
	path := filepath.Join(d.path, stateName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, corrupt(path, "is not a regular file", nil)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return decode(path, text)
}

// decode believes a text only when it is one whole state of this format.
func decode(path string, text []byte) (*State, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, corrupt(path, "is empty", nil)
	}
	var header struct {
		FormatVersion *int `json:"format_version"`
	}
	var foreign *json.UnmarshalTypeError
	err := json.Unmarshal(text, &header)
	switch {
	case errors.As(err, &foreign):
		return nil, corrupt(path, "is none of ipmasq's", err)
	case err != nil:
		return nil, corrupt(path, "is cut off or damaged", err)
	case header.FormatVersion == nil:
		return nil, corrupt(path, "has no format_version, so it is none of ipmasq's", nil)
	case *header.FormatVersion > FormatVersion:
		return nil, &CorruptError{Path: path, Newer: true,
			Reason: fmt.Sprintf("was written by a newer ipmasq (format_version %d, this one knows %d)", *header.FormatVersion, FormatVersion)}
	case *header.FormatVersion != FormatVersion:
		return nil, corrupt(path, fmt.Sprintf("has format_version %d, which never was", *header.FormatVersion), nil)
	}
	// A field that this ipmasq does not know would be lost by the next save.
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var content onDisk
	if err := decoder.Decode(&content); err != nil {
		return nil, corrupt(path, "does not have the fields of a state", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, corrupt(path, "goes on after its end", nil)
	}
	if err := content.State.validate(); err != nil {
		return nil, corrupt(path, "makes no sense", err)
	}
	return &content.State, nil
}

// validate holds for what is written as for what is read.
func (s *State) validate() error {
	all := []*Applied{s.Applied, s.Previous}
	if u := s.Unconfirmed; u != nil {
		if err := u.validate(); err != nil {
			return err
		}
		all = append(all, u.Back, u.BackPrevious)
	}
	if s.Withdrawn != "" {
		if err := checkDigest(s.Withdrawn); err != nil {
			return err
		}
	}
	for _, applied := range all {
		if applied == nil {
			continue
		}
		if err := checkDigest(applied.Digest); err != nil {
			return err
		}
		if applied.Time.IsZero() {
			return fmt.Errorf("policy %s: no time of applying", applied.Digest[:shownDigits])
		}
		for _, file := range applied.Files {
			if file.Name == "" {
				return fmt.Errorf("policy %s: a file without a name", applied.Digest[:shownDigits])
			}
		}
	}
	if s.Pending != nil {
		for _, digest := range s.Pending.Before {
			if err := checkDigest(digest); err != nil {
				return err
			}
		}
	}
	for _, sysctl := range s.Sysctls {
		if sysctl.Name == "" {
			return errors.New("a sysctl without a name")
		}
	}
	return nil
}

// encode is decode the other way.
func (s *State) encode() ([]byte, error) {
	content := onDisk{FormatVersion: FormatVersion, State: *s}
	for _, applied := range []**Applied{&content.Applied, &content.Previous} {
		if *applied != nil {
			tidied := **applied
			tidied.Time = tidied.Time.UTC().Truncate(time.Second)
			*applied = &tidied
		}
	}
	if err := content.State.validate(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(content, "", "  ")
	return append(text, '\n'), err
}

// policies are the digests that the state refers to.
func (s *State) policies() []string {
	var digests []string
	all := []*Applied{s.Applied, s.Previous}
	if u := s.Unconfirmed; u != nil {
		digests = append(digests, u.Digest)
		all = append(all, u.Back, u.BackPrevious)
	}
	for _, applied := range all {
		if applied != nil {
			digests = append(digests, applied.Digest)
		}
	}
	if s.Pending != nil {
		digests = append(digests, s.Pending.Before...)
	}
	return digests
}
