//go:build !linux

package sysctl

import (
	"errors"
	"fmt"
)

func needsLinux(doing, name string) error {
	return fmt.Errorf("%s sysctl %s: needs Linux: %w", doing, name, errors.ErrUnsupported)
}

// Get needs Linux.
func Get(name string) (string, error) { return "", needsLinux("read", name) }

// Set needs Linux.
func Set(name, _ string) error { return needsLinux("write", name) }

// Writable needs Linux.
func Writable(name string) error { return needsLinux("open for writing", name) }

// Fixed needs Linux.
func Fixed(string) bool { return false }

func children(dir string) ([]string, error) { return nil, needsLinux("list", dir) }
