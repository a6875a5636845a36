package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeNew writes a file as a whole, and replaces one that is there only if it
// is told to.
func writeNew(name string, text []byte, replace bool) error {
	exists := func() error {
		return advised{fmt.Errorf("%s is there already, and is left as it is", name), "--force replaces it"}
	}
	switch info, err := os.Lstat(name); {
	case err == nil && !replace:
		return exists()
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("write the policy: %s is not a regular file", name)
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".ipmasq-new-*")
	if err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	defer os.Remove(file.Name()) // it is gone already where it was renamed
	_, err = file.Write(text)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	switch {
	case err != nil:
	case replace:
		err = os.Rename(file.Name(), name)
	default:
		err = os.Link(file.Name(), name) // it fails where somebody was faster
	}
	if errors.Is(err, fs.ErrExist) {
		return exists()
	}
	if err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	return nil
}
