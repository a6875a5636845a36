//go:build !linux

package engine

// program cannot be told.
func program() string { return "" }
