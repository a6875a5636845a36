package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// places are what decides the content of some paths: the folders in which a
// name on the way may come, go or be replaced, links included, and the files
// that the ways end in.
type places struct {
	folders map[string][]string // to the names that matter; "*": all
	files   []string
}

// linksMost bounds links on one way, as the kernel does.
const linksMost = 40

// placesOf follows paths. One that leads nowhere is followed as far as it goes.
func placesOf(paths []string) places {
	p := places{folders: map[string][]string{}}
	for _, path := range paths {
		if whole, err := filepath.Abs(path); err == nil {
			p.follow(whole)
		}
	}
	return p
}

func (p *places) follow(path string) {
	at, rest := "/", parts(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		p.name(at, name)
		full := filepath.Join(at, name)
		info, err := os.Lstat(full)
		switch {
		case err != nil:
			return
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(full)
			if links++; err != nil || links > linksMost {
				return
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(parts(target), rest...)
		case info.IsDir():
			at = full
			if len(rest) == 0 {
				p.name(full, "*")
			}
		default:
			if len(rest) == 0 && !slices.Contains(p.files, full) {
				p.files = append(p.files, full)
			}
			return
		}
	}
}

// parts are the names on a way. Cleaning it first would be wrong: .. behind a
// link is not where it came from.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

func (p *places) name(folder, name string) {
	if !slices.Contains(p.folders[folder], name) {
		p.folders[folder] = append(p.folders[folder], name)
	}
}

// prints is what can be seen of paths without reading them. It finds what no
// notification tells of: files on network file systems.
func prints(paths []string) string {
	var out strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&out, "%s: none\n", path)
			continue
		}
		fmt.Fprintf(&out, "%s: %d %d %v\n", path, info.Size(), info.ModTime().UnixNano(), info.Mode())
	}
	return out.String()
}
