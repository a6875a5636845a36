package policytest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ErrNoTests is a policy or a folder without tests.
var ErrNoTests = errors.New("no tests")

// Find gives the test files that paths stand for, each once: a test file, a
// policy file (NAME.test.yaml beside NAME.yaml), or a folder (those in it).
func Find(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		found, err := find(filepath.Clean(path))
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

func find(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("look for tests: %w", err)
	}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("look for tests: %w", err)
		}
		var out []string
		for _, e := range entries {
			if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, Suffix) && name[0] != '.' {
				out = append(out, filepath.Join(path, name))
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("%w in the folder %s: there is no *%s", ErrNoTests, path, Suffix)
		}
		return out, nil
	}
	if strings.HasSuffix(path, Suffix) {
		return []string{path}, nil
	}
	beside := strings.TrimSuffix(path, ".yaml") + Suffix
	if _, err := os.Stat(beside); err == nil {
		return []string{beside}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for tests: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("look for tests: %w", err)
	}
	if regexp.MustCompile(`(?m)^tests:`).Match(text) {
		return []string{path}, nil
	}
	return nil, fmt.Errorf("%w of %s: there is no %s", ErrNoTests, path, beside)
}
