package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/state"
)

// by is who runs the program, for the history.
func (p *program) by() state.By {
	by := state.By{UID: os.Getuid(), Sudo: p.getenv("SUDO_USER"), Command: "ipmasq " + strings.Join(p.args, " ")}
	if runes := []rune(by.Command); len(runes) > 200 {
		by.Command = string(runes[:197]) + "..."
	}
	// 4294967295 is nobody: a daemon, or a kernel without audit.
	text, _ := os.ReadFile("/proc/self/loginuid")
	if uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err == nil && uid != 1<<32-1 {
		login := uint32(uid)
		by.Login = &login
	}
	return by
}
