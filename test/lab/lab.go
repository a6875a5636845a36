package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Patience bounds the wait for what should happen.
	Patience = 5 * time.Second
	// Silence is how long to listen for what should not.
	Silence = 400 * time.Millisecond
)

// serial tells the labs of one process apart; parallel tests share /run/netns.
var serial atomic.Uint64

// TB is the part of testing.TB that a lab needs. [Program] stands in for it outside a test.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Lab is a set of hosts and links that belong to one test.
type Lab struct {
	t      TB
	prefix string
	dir    string

	mu     sync.Mutex
	hosts  map[string]*Host
	open   map[io.Closer]struct{}
	fabric *Host // holds the bridges of all switches
	closed bool

	settling sync.Mutex
	marker   *marker
}

// New returns an empty lab that is removed with its test. It skips the test where this process may not make
// namespaces, and fails it where CI is set. Labs do not see each other, so tests may run in parallel.
func New(t TB) *Lab {
	t.Helper()
	if err := entered(); err != nil {
		Lacking(t, "no lab: %v", err)
		return nil
	}
	l := &Lab{
		t:      t,
		prefix: fmt.Sprintf("lab%d-", serial.Add(1)),
		hosts:  make(map[string]*Host),
		open:   make(map[io.Closer]struct{}),
	}
	t.Cleanup(l.close)
	return l
}

// Dir returns a folder on a tmpfs for the test's state files. It is removed with the lab.
func (l *Lab) Dir() string {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir == "" {
		dir := filepath.Join("/run/lab", l.prefix+"state")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			l.t.Fatalf("lab: %v", err)
		}
		l.dir = dir
	}
	return l.dir
}

// Host adds a host: a network namespace with nothing but lo in it, which is up.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h, err := l.host(name)
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	return h
}

func (l *Lab) host(name string) (*Host, error) {
	l.mu.Lock()
	if _, taken := l.hosts[name]; taken || l.closed {
		l.mu.Unlock()
		return nil, fmt.Errorf("host %s: name taken, or lab closed", name)
	}
	l.hosts[name] = nil
	l.mu.Unlock()

	h, err := newHost(l, name)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[name] = h
	return h, nil
}

// track has c closed with the lab, before the hosts go.
func (l *Lab) track(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
}

func (l *Lab) forget(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *Lab) close() {
	l.mu.Lock()
	open, hosts := l.open, l.hosts
	l.open, l.hosts, l.closed = make(map[io.Closer]struct{}), nil, true
	l.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
	for _, h := range hosts {
		if h != nil {
			h.close()
		}
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}
