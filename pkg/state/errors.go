package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// CorruptError is a file of the state folder that cannot be believed.
type CorruptError struct {
	Path   string
	Reason string // "is cut off or damaged"
	Newer  bool   // written by a later version of ipmasq, and good for that
	Err    error  // what the decoder said, or nil
}

// Error says what is wrong and how to go on.
func (e *CorruptError) Error() string {
	text := fmt.Sprintf("%s %s", e.Path, e.Reason)
	if e.Err != nil {
		text += fmt.Sprintf(" (%v)", e.Err)
	}
	return text + ": " + e.Remedy()
}

// Unwrap gives the decoder's error.
func (e *CorruptError) Unwrap() error { return e.Err }

// Remedy is the way on, in one sentence. The rules in the kernel do not depend
// on any file here.
func (e *CorruptError) Remedy() string {
	switch {
	case e.Newer:
		return "use that version, or move the file away, which forgets the way back (rollback, sysctls)"
	case filepath.Base(e.Path) == stateName:
		return "move it away and apply the policy again; only the way back (rollback, sysctls) is lost"
	case filepath.Base(e.Path) == historyName:
		return "move it away; only who applied what, and rolling back further than to the policy before, is lost"
	}
	return "move it away and apply the policy from its own files; only rolling back to this copy is lost"
}

func corrupt(path, reason string, err error) error {
	return &CorruptError{Path: path, Reason: reason, Err: err}
}

// writeFailed names the path and what the user can do about it.
func writeFailed(doing, path string, err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	remedy := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = ": make room there, or give another --state-dir"
	case errors.Is(err, syscall.EROFS):
		remedy = ": make it writable, or give a --state-dir that is"
	case errors.Is(err, fs.ErrPermission):
		remedy = ": run as its owner, or give another --state-dir"
	}
	return &failure{fmt.Sprintf("%s %s: %v%s", doing, path, err, remedy), fs.PathError{Op: doing, Path: path, Err: err}}
}

// failure says in our words what befell a file.
type failure struct {
	text  string
	cause fs.PathError
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return &f.cause }
