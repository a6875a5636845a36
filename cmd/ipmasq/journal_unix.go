//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// toJournal says whether standard error is the journal's.
func (p *program) toJournal() bool {
	f, ok := p.stderr.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && p.getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
