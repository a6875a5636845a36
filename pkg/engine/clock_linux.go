package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// uptime is CLOCK_BOOTTIME: since the boot, with the time that the machine
// slept.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every kernel that has nftables has the clock
	}
	return time.Duration(t.Nano())
}
