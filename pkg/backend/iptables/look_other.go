//go:build !linux

package iptables

import "errors"

// generation needs Linux.
func generation() (uint32, error) { return 0, errors.ErrUnsupported }
