package engine

import (
	"fmt"
	"sync"
	"syscall"
)

// program tells this program from any other version of it: a file that was
// written anew is another inode, or has changed at another time. It is "" where
// that cannot be told.
var program = sync.OnceValue(func() string {
	var s syscall.Stat_t
	if syscall.Stat("/proc/self/exe", &s) != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d:%d.%09d", s.Dev, s.Ino, s.Size, s.Ctim.Sec, s.Ctim.Nsec)
})
