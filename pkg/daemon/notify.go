package daemon

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Notifier tells the service manager how the daemon is: sd_notify(3). The zero
// Notifier has nobody to tell.
type Notifier struct {
	conn *net.UnixConn
	// Watchdog is how often the manager wants to be told that the daemon lives;
	// 0 where it does not ask.
	Watchdog time.Duration
}

// NewNotifier finds the manager by the environment that it gives.
func NewNotifier(getenv func(string) string, pid int) (*Notifier, error) {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return &Notifier{}, nil
	}
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: neither a path nor an abstract name", path)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	n := &Notifier{conn: conn}
	us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if who := getenv("WATCHDOG_PID"); err == nil && us > 0 && (who == "" || who == strconv.Itoa(pid)) {
		n.Watchdog = time.Duration(us) * time.Microsecond
	}
	return n, nil
}

// tell sends assignments. A manager that does not listen is no reason to stop.
func (n *Notifier) tell(assignments ...string) {
	if n.conn != nil {
		_, _ = n.conn.Write([]byte(strings.Join(assignments, "\n")))
	}
}

func status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Close ends it.
func (n *Notifier) Close() error {
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}
