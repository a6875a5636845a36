package daemon

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Level is how urgent a line is, as syslog(3) counts.
type Level uint8

// The levels that are used.
const (
	Error   Level = 3
	Warning Level = 4
	Notice  Level = 5
	Info    Level = 6
)

// Log writes lines for people.
type Log struct {
	to io.Writer
	// journal has each line begin with its level, as the journal reads it
	// (sd-daemon(3)). The journal knows the time and the program by itself.
	journal bool
	mu      sync.Mutex
}

// NewLog writes to a stream, which may be the journal's.
func NewLog(to io.Writer, journal bool) *Log { return &Log{to: to, journal: journal} }

// Printf writes a text, of one or more lines.
func (l *Log) Printf(level Level, format string, args ...any) {
	prefix := map[Level]string{Error: "ipmasq: error: ", Warning: "ipmasq: warning: ", Notice: "ipmasq: ", Info: "ipmasq: "}[level]
	if l.journal {
		prefix = fmt.Sprintf("<%d>", level)
	}
	var out strings.Builder
	for line := range strings.Lines(strings.TrimRight(fmt.Sprintf(format, args...), "\n") + "\n") {
		out.WriteString(prefix + line)
		if !l.journal {
			prefix = "" // what follows belongs to it
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.to, out.String())
}
