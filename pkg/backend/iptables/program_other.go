//go:build !linux

package iptables

import (
	"errors"
	"os/exec"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// version needs Linux.
func version(ruleset.Family, string) (v [3]int, err error) { return v, errors.ErrUnsupported }

func tie(*exec.Cmd) {}
