package daemon

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that the service manager compares.
func monotonic() time.Duration {
	var at unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &at) != nil {
		return 0
	}
	return time.Duration(at.Nano())
}
