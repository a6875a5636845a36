//go:build !linux

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// supported makes Open fail: what is remembered here only exists on Linux. The
// rest is there to be compiled.
func supported() error { return fmt.Errorf("needs Linux: %w", errors.ErrUnsupported) }

func checkOwner(string, fs.FileInfo) error { return supported() }

func tryLock(*os.File) error { return supported() }

func syncDir(string) error { return supported() }
