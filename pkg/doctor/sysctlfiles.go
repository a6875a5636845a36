package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// configured is a line of a file that sets sysctls at boot.
type configured struct {
	name, value string // in slash form, perhaps with wildcards
	place       string // "FILE:LINE"
}

// sysctlFolders are where they are, the strongest first (sysctl.d(5)).
var sysctlFolders = []string{"etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"}

// readConfigured reads the files below a root in the order in which they take
// effect: by name, whatever the folder. One of the same name in a stronger folder
// is in place of the other. sysctl(8) reads /etc/sysctl.conf last.
func readConfigured(root string) (out []configured) {
	files := map[string]string{}
	for _, folder := range slices.Backward(sysctlFolders) {
		found, _ := filepath.Glob(filepath.Join(root, folder, "*.conf"))
		for _, f := range found {
			files[filepath.Base(f)] = f
		}
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out = append(out, configuredIn(files[name])...)
	}
	return append(out, configuredIn(filepath.Join(root, "etc/sysctl.conf"))...)
}

func configuredIn(file string) (out []configured) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		name = strings.TrimSpace(strings.TrimPrefix(name, "-"))
		if !ok || name == "" || name[0] == '#' || name[0] == ';' {
			continue
		}
		if slashed, err := sysctl.Path(name); err == nil {
			out = append(out, configured{slashed, strings.TrimSpace(value), fmt.Sprintf("%s:%d", file, n)})
		}
	}
	return out
}

// setAtBoot is the line that sets a sysctl to the value that it has, or nil.
func (h *Host) setAtBoot(name string) *configured {
	for i := len(h.configured) - 1; i >= 0; i-- {
		c := &h.configured[i]
		if match, err := path.Match(c.name, name); c.name == name || err == nil && match {
			if c.value == h.Sysctls[name] {
				return c
			}
			return nil
		}
	}
	return nil
}

// keeps is advice that goes with writing a sysctl: it is to stay so.
func (h *Host) keeps(name string) []string {
	if c := h.setAtBoot(name); c != nil {
		return []string{fmt.Sprintf("# and take it out of %s, or it comes back", c.place)}
	}
	return nil
}
