package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// Process is a daemon of ipmasq's.
type Process struct {
	PID     int
	Command string // as it was called
	// Replaced says that its program is no longer on the disk: another version
	// has been installed since it was started.
	Replaced bool
}

// daemons finds those that work on a network namespace. Processes that end
// meanwhile, or are none of the caller's business, are passed over.
func daemons(netns string) (out []Process, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || string(bytes.TrimSpace(name)) != "ipmasq" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		words := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		if err != nil || len(words) < 2 || words[1] != "run" || !worksOn(netns, dir, words[2:]) {
			continue
		}
		p := Process{PID: pid, Command: strings.Join(words, " ")}
		if program, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
			p.Replaced = strings.HasSuffix(program, " (deleted)")
		}
		out = append(out, p)
	}
	return out, nil
}

// worksOn says whether a daemon is for a namespace: its flag names that, or it
// is in it.
func worksOn(netns, dir string, flags []string) bool {
	where := filepath.Join(dir, "ns/net")
	for i, f := range flags {
		if value, ok := strings.CutPrefix(f, "--netns="); ok {
			where = value
		} else if f == "--netns" && i+1 < len(flags) {
			where = flags[i+1]
		}
	}
	ns, err := link.OpenNetNS(where)
	if err != nil {
		return false
	}
	defer ns.Close()
	return link.SameNetNS(ns.ID(), netns)
}
