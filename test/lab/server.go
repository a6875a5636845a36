package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// Server answers on one port of a host, and remembers who asked.
type Server struct {
	lab   *Lab
	name  string
	bulk  int64
	addr  netip.AddrPort
	stops []io.Closer

	mu      sync.Mutex
	peers   []netip.AddrPort
	waited  int
	changed chan struct{} // closed and replaced with each peer
	conns   map[net.Conn]struct{}
	closed  bool
	done    sync.WaitGroup
}

// ServerOption changes what a server answers.
type ServerOption func(*Server)

// As has the server call itself something other than its host's name.
func As(name string) ServerOption { return func(s *Server) { s.name = name } }

// ServeBytes has a TCP server send n bytes after its line and close, instead of echoing.
func ServeBytes(n int64) ServerOption { return func(s *Server) { s.bulk = n } }

func newServer(h *Host, opts []ServerOption) *Server {
	s := &Server{
		lab:     h.lab,
		name:    h.name,
		changed: make(chan struct{}),
		conns:   make(map[net.Conn]struct{}),
	}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// ServeTCP listens on addr: "192.168.1.10:80", "[fd00:1::10]:80", or ":80" for both families. Port 0 takes a free
// one. Each connection is sent a line that says what the server sees of it, see [Seen], and is then echoed.
func (h *Host) ServeTCP(addr string, opts ...ServerOption) *Server {
	h.lab.t.Helper()
	s := newServer(h, opts)
	var listener net.Listener
	h.must(h.Do(func() (err error) {
		config := net.ListenConfig{KeepAlive: -1} // like the dialer: nothing is sent that no test asked for
		listener, err = config.Listen(context.Background(), "tcp", addr)
		return err
	}))
	s.addr = unmap(listener.Addr().(*net.TCPAddr).AddrPort())
	s.stops = append(s.stops, listener)
	h.lab.track(s)
	s.done.Go(func() { s.acceptAll(listener) })
	return s
}

func (s *Server) acceptAll(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that died in the queue
		}
		if !s.admit(conn) {
			conn.Close()
			return
		}
		s.done.Go(func() {
			defer s.dismiss(conn)
			s.serve(conn)
		})
	}
}

func (s *Server) serve(conn net.Conn) {
	seen := Seen{
		Peer:  unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort()),
		Local: unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort()),
		Name:  s.name,
	}
	s.note(seen.Peer)
	if _, err := fmt.Fprintln(conn, seen); err != nil {
		return
	}
	if s.bulk > 0 {
		_, _ = io.CopyN(conn, zeros{}, s.bulk)
		return
	}
	_, _ = io.Copy(onlyWriter{conn}, bufio.NewReader(conn))
}

func (s *Server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) dismiss(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *Server) note(peer netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = append(s.peers, peer)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Addr returns the address and port that the server listens on.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Port returns the port that the server listens on.
func (s *Server) Port() uint16 { return s.addr.Port() }

// Peers returns everyone who asked so far, in order: each connection, each datagram.
func (s *Server) Peers() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]netip.AddrPort(nil), s.peers...)
}

// WaitPeer returns the next peer that no call of WaitPeer has returned yet.
func (s *Server) WaitPeer(ctx context.Context) (netip.AddrPort, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		if s.waited < len(s.peers) {
			peer := s.peers[s.waited]
			s.waited++
			s.mu.Unlock()
			return peer, nil
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return netip.AddrPort{}, fmt.Errorf("wait for a peer of %s: %w", s.addr, ctx.Err())
		}
	}
}

// Close stops the server and cuts its connections. Closing twice is fine.
func (s *Server) Close() error {
	s.lab.forget(s)
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	for _, stop := range s.stops {
		stop.Close()
	}
	s.done.Wait()
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// onlyWriter hides splice(2), whose packets are not shaped like those of a program that reads and writes.
type onlyWriter struct{ io.Writer }
