package vm

import (
	"bufio"
	"fmt"
	"io"
	"path"
)

// archive writes a cpio archive of the format "newc", which the kernel unpacks as its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst). Everything in it belongs to root. The first
// error stays, and close gives it.
type archive struct {
	w    *bufio.Writer
	made map[string]bool // names that are in it
	at   int             // bytes written
	err  error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<20), made: map[string]bool{".": true}}
}

// The kinds of entries, as in st_mode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
	modeChar = 0o020000
)

func (a *archive) dir(name string)                          { a.add(name, modeDir|0o755, nil, 0, 0) }
func (a *archive) file(name string, perm int, bytes []byte) { a.add(name, modeFile|perm, bytes, 0, 0) }
func (a *archive) link(name, target string)                 { a.add(name, modeLink|0o777, []byte(target), 0, 0) }
func (a *archive) char(name string, major, minor int)       { a.add(name, modeChar|0o600, nil, major, minor) }

// add makes the folders above name too. What is there already stays as it is.
func (a *archive) add(name string, mode int, bytes []byte, major, minor int) {
	if a.made[name] {
		return
	}
	if above := path.Dir(name); !a.made[above] {
		a.dir(above)
	}
	a.made[name] = true
	a.entry(name, mode, bytes, major, minor)
}

func (a *archive) entry(name string, mode int, bytes []byte, major, minor int) {
	// Magic, inode, mode, uid, gid, links, mtime, size, device of the file (2), device (2), length of the name, check.
	a.print(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		len(a.made), mode, 0, 0, 1, 0, len(bytes), 0, 0, major, minor, len(name)+1, 0, name))
	a.print(bytes)
}

// print pads to four bytes.
func (a *archive) print(b []byte) {
	if a.err != nil {
		return
	}
	_, a.err = a.w.Write(append(b, "\x00\x00\x00"[:-len(b)&3]...))
	a.at += len(b)
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil, 0, 0)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}
