package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	daemonName = "daemon.json"
	daemonLock = "daemon.lock"
)

// Daemon is what a running daemon says of itself.
type Daemon struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"` // UTC
	// Files are what it reads the policy from.
	Files []string `json:"files"`
	// Problem is why the policy in the files is not in force, or what it cannot
	// do otherwise; "" where all is well.
	Problem      string     `json:"problem,omitempty"`
	ProblemSince *time.Time `json:"problem_since,omitempty"`
	// Owns says that nobody else can change the rules.
	Owns bool `json:"owns_table,omitempty"`
}

// ErrDaemonRuns is a daemon for a folder that has one.
var ErrDaemonRuns = errors.New("a daemon is running already")

// HoldDaemon makes the caller the folder's daemon until release, or the end of
// the process.
func (d *Dir) HoldDaemon() (release func(), err error) {
	if err := d.create(); err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, daemonLock)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, writeFailed("lock", path, err)
	}
	// Who looks whether there is a daemon has the lock for a moment.
	for range 20 {
		if err = tryLock(file); !errors.Is(err, errHeld) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		file.Close()
		if errors.Is(err, errHeld) {
			who := ""
			if other, err := d.readDaemon(); err == nil {
				who = fmt.Sprintf(" (pid %d)", other.PID)
			}
			return nil, fmt.Errorf("%w%s with the state in %s", ErrDaemonRuns, who, d.path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return sync.OnceFunc(func() {
		os.Remove(filepath.Join(d.path, daemonName))
		file.Close()
	}), nil
}

// SaveDaemon writes what the daemon says. It needs HoldDaemon. It is not synced:
// no daemon outlives the machine.
func (d *Dir) SaveDaemon(s Daemon) error {
	target := filepath.Join(d.path, daemonName)
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	// One daemon writes, so one name will do.
	if err := os.WriteFile(target+".new", append(text, '\n'), 0o600); err != nil {
		return writeFailed("write", target, err)
	}
	if err := os.Rename(target+".new", target); err != nil {
		return writeFailed("write", target, linkCause(err))
	}
	return nil
}

// LoadDaemon gives what a running daemon says; nil where none runs.
func (d *Dir) LoadDaemon() (*Daemon, error) {
	path := filepath.Join(d.path, daemonLock)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a daemon: %w", err)
	}
	defer file.Close()
	if err := tryLock(file); !errors.Is(err, errHeld) {
		return nil, err
	}
	s, err := d.readDaemon()
	if errors.Is(err, fs.ErrNotExist) {
		return &Daemon{}, nil // it has said nothing yet
	}
	return s, err
}

func (d *Dir) readDaemon() (*Daemon, error) {
	text, err := os.ReadFile(filepath.Join(d.path, daemonName))
	if err != nil {
		return nil, fmt.Errorf("read what the daemon says: %w", err)
	}
	var s Daemon
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, corrupt(filepath.Join(d.path, daemonName), "is not what a daemon says", err)
	}
	return &s, nil
}
