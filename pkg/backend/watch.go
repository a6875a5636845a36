package backend

import (
	"errors"
	"fmt"
)

// Foreign is a transaction that somebody has committed, as a watch tells it.
type Foreign struct {
	// Generation is that of the rules after it; 0 where that was lost.
	Generation uint32
	// PID and Process are who committed it: the number in the machine's own PID
	// namespace, and the name of the program.
	PID     uint32
	Process string
	// Ours says that it changed our rules, or may have; Gone that it removed
	// them.
	Ours, Gone bool
}

// Who names the program, or is "" where it is not known.
func (f Foreign) Who() string {
	if f.Process == "" {
		return ""
	}
	return fmt.Sprintf("%s (pid %d)", f.Process, f.PID)
}

// ErrStopped ends a watch that was stopped.
var ErrStopped = errors.New("the watch was stopped")
