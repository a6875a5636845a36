package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

// errHeld is a lock that another open file has.
var errHeld = errors.New("held by another process")

// Lock makes the caller the only one that changes the folder, until unlock or
// the end of the process, however that comes. A folder that is not there is
// created. Where another process holds the
// lock, onWait (nil is allowed) is called once with who that is, and Lock waits
// for as long as ctx allows.
func (d *Dir) Lock(ctx context.Context, onWait func(holder string)) (unlock func(), err error) {
	if err := d.create(); err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) { // what only changes the kernel can go on
		if there, opening := os.Open(path); opening == nil {
			file, err = there, nil
		}
	}
	if err != nil {
		return nil, writeFailed("lock", path, err)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := tryLock(file)
		if err == nil {
			break
		}
		if !errors.Is(err, errHeld) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if onWait != nil {
			onWait(holder(file))
			onWait = nil
		}
		select {
		case <-ctx.Done():
			who := holder(file)
			file.Close()
			return nil, fmt.Errorf("lock %s: held by %s: %w", path, who, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	// The text is for people only: a full disk must not stop a delete.
	if file.Truncate(0) == nil {
		file.WriteAt([]byte(self()), 0)
	}
	d.lock.Store(file)
	return sync.OnceFunc(func() {
		d.lock.Store(nil)
		file.Truncate(0)
		file.Close() // and with it the lock
	}), nil
}

// Locked is the file whose lock the caller has, or nil. A process that inherits
// it has the lock too, for as long as it lives.
func (d *Dir) Locked() *os.File { return d.lock.Load() }

// self is this process as others shall see it.
func self() string {
	command := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	return fmt.Sprintf("pid %d (%s)", os.Getpid(), oneLine(strings.Join(command, " "), 120))
}

// holder is what the process that has the lock wrote into it, which may be
// nothing yet.
func holder(file *os.File) string {
	text := make([]byte, 512)
	n, _ := file.ReadAt(text, 0)
	if who := oneLine(string(text[:n]), 160); who != "" {
		return who
	}
	return "another process"
}

// oneLine makes a text fit to be printed in a message.
func oneLine(text string, limit int) string {
	runes := []rune(strings.ToValidUTF8(text, "?"))
	if len(runes) > limit {
		runes = append(runes[:limit-3], '.', '.', '.')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = ' '
		}
	}
	return strings.TrimSpace(string(runes))
}
