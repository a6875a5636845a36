package daemon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// fileWatch tells of changes of the places that were given last (inotify(7)).
type fileWatch struct {
	file *os.File
	mu   sync.Mutex
	// watched are the names that matter in a folder, by the kernel's number for
	// it; nil for a file.
	watched map[int32][]string
}

const (
	folderMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	// A file is watched itself, beside its folder: it may be changed by another
	// name, or be bound to its place from another file system.
	fileMask = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
)

func watchFiles() (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files (fs.inotify.max_user_instances): %w", err)
	}
	return &fileWatch{file: os.NewFile(uintptr(fd), "inotify"), watched: map[int32][]string{}}, nil
}

// watch makes these the places that are watched. What changes while it runs may
// be told or not: read the files after it.
func (f *fileWatch) watch(p places) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	now := map[int32][]string{}
	var failed error
	add := func(path string, mask uint32, names []string) {
		number, err := 0, error(nil)
		_ = conn.Control(func(fd uintptr) { number, err = unix.InotifyAddWatch(int(fd), path, mask) })
		switch {
		case err == nil:
			now[int32(number)] = append(now[int32(number)], names...)
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR): // its folder tells when it is there
		case failed == nil:
			failed = fmt.Errorf("watch %s (fs.inotify.max_user_watches): %w", path, err)
		}
	}
	for folder, names := range p.folders {
		add(folder, folderMask, names)
	}
	for _, file := range p.files {
		add(file, fileMask, nil)
	}
	for number := range f.watched {
		if _, still := now[number]; !still {
			_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(number)) })
		}
	}
	f.watched = now
	return failed
}

// next waits for a change that matters. Writing says that it was made by
// somebody who may go on.
func (f *fileWatch) next() (writing bool, err error) {
	var buf [16 << 10]byte
	for {
		n, err := f.file.Read(buf[:])
		if err != nil {
			return false, fmt.Errorf("wait for changes of files: %w", err)
		}
		matters, open := false, true
		for p := buf[:n]; len(p) >= unix.SizeofInotifyEvent; {
			number, mask := int32(binary.NativeEndian.Uint32(p)), binary.NativeEndian.Uint32(p[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(p[12:]))
			if size > len(p) {
				break
			}
			name, _, _ := bytes.Cut(p[unix.SizeofInotifyEvent:size], []byte{0})
			if f.about(number, mask, string(name)) {
				matters = true
				open = mask&unix.IN_MODIFY != 0
			}
			p = p[size:]
		}
		if matters {
			return open, nil
		}
	}
}

// about says whether an event is about a place that is watched still.
func (f *fileWatch) about(number int32, mask uint32, name string) bool {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	names, watched := f.watched[number]
	return watched && (name == "" || slices.Contains(names, name) || slices.Contains(names, "*"))
}

func (f *fileWatch) close() error { return f.file.Close() }
