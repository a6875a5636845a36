//go:build !linux

package engine

import "time"

// uptime is there to be compiled.
func uptime() time.Duration { return 0 }
