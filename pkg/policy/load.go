package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// StdinName stands in places for what was read from standard input.
const StdinName = "<stdin>"

// LoadOptions is what Load needs besides the paths.
type LoadOptions struct {
	// Stdin is read where a path is "-". Files that it refers to are
	// relative to the working directory.
	Stdin io.Reader
}

// Load reads policy files and merges them into one policy. A path is a file, a
// directory (its *.yaml files but *.test.yaml, sorted by name) or "-" for
// standard input.
//
// Mistakes in the files come back as [Errors], all of them at once, together
// with what could be understood of the policy; its Sources are what [Print]
// shows the mistakes in. Any other error means that the files could not be
// read.
func Load(paths []string, opts LoadOptions) (*Policy, error) {
	names, err := expand(paths)
	if err != nil {
		return nil, err
	}
	l := newLoader(readReferred)
	for _, name := range names {
		var text []byte
		if name == "-" {
			if opts.Stdin == nil {
				return nil, errors.New("read policy: there is no standard input to read")
			}
			name = StdinName
			text, err = io.ReadAll(opts.Stdin)
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		l.file(name, text)
	}
	return l.finish()
}

// Parse reads one policy from memory, as [Load] does. Files that it refers to
// are relative to the directory of name.
func Parse(name string, text []byte) (*Policy, error) {
	return parse(name, text, readReferred)
}

func parse(name string, text []byte, open opener) (*Policy, error) {
	l := newLoader(open)
	l.file(name, text)
	return l.finish()
}

// Reparse reads a policy again from the Sources that it had, and touches no
// file: what was applied can be compared with after its files have changed.
func Reparse(sources []Source) (*Policy, error) {
	texts := make(map[string][]byte, len(sources))
	for _, s := range sources {
		texts[s.Name] = s.Text
	}
	l := newLoader(func(path string) ([]byte, error) {
		text, ok := texts[path]
		if !ok {
			return nil, errors.New("it is not among the policy's sources")
		}
		return text, nil
	})
	for _, s := range sources {
		if _, referred := l.lineFiles[s.Name]; !referred {
			l.file(s.Name, s.Text)
		}
	}
	return l.finish()
}

// expand lists the files that paths stand for. A file that is given twice is
// refused here, because all its names would clash with themselves below.
func expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("read policy: no file is given")
	}
	var names []string
	for _, path := range paths {
		if path == "-" {
			names = append(names, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		if !info.IsDir() {
			names = append(names, filepath.Clean(path))
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		before := len(names)
		for _, e := range entries {
			// Editors keep their unsaved copies under a leading dot, and tests of a
			// policy stand beside it.
			if !e.IsDir() && strings.HasSuffix(e.Name(), ".yaml") && !strings.HasSuffix(e.Name(), ".test.yaml") && e.Name()[0] != '.' {
				names = append(names, filepath.Join(path, e.Name()))
			}
		}
		if len(names) == before {
			return nil, fmt.Errorf("read policy: no *.yaml file in the directory %s", path)
		}
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("read policy: %s is given twice", name)
		}
	}
	return names, nil
}

// opener reads a file that a policy refers to.
type opener func(path string) ([]byte, error)

// maxReferred bounds a referred file, so that a policy cannot make the reader
// run out of memory by naming an endless one.
const maxReferred = 1 << 30

// readReferred reads a regular file only: a policy that names a device or a
// pipe would otherwise block for ever whoever checks it.
func readReferred(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bare(err)
	}
	switch {
	case info.IsDir():
		return nil, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > maxReferred:
		return nil, errors.New("it is larger than 1 GiB")
	}
	text, err := os.ReadFile(path)
	return text, bare(err)
}

// bare takes the path off an error of package os; the message that it goes
// into names the path already.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
