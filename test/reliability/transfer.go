package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	transferPort = 8081
	chunk        = 500
	chunkEvery   = 2 * time.Millisecond
	// A transfer that is silent for so long counts as cut.
	silent = 3 * time.Second
	again  = 500 * time.Millisecond // and the next one has to be there
)

// transfer is a download at a steady rate, by a client inside from a server outside. One that is cut is begun anew.
type transfer struct {
	g        *gateway
	listener net.Listener
	cancel   context.CancelFunc
	group    sync.WaitGroup

	mu       sync.Mutex
	progress chan struct{} // closed and replaced with each piece that arrives
	cuts     int
	stall    time.Duration
}

func startTransfer(g *gateway) (*transfer, error) {
	t := &transfer{g: g, progress: make(chan struct{})}
	if err := g.Server.Do(func() (err error) {
		t.listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", transferPort))
		return err
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	first := make(chan struct{})
	t.group.Go(func() { t.download(ctx, first) })
	select {
	case <-first:
		return t, nil
	case <-time.After(lab.Patience):
		t.stop()
		return nil, fmt.Errorf("no transfer within %v", lab.Patience)
	}
}

// download goes on until ctx ends. It closes first when the first piece is there.
func (t *transfer) download(ctx context.Context, first chan struct{}) {
	for ctx.Err() == nil {
		client, server, err := t.connect()
		if err != nil {
			continue
		}
		broken := make(chan struct{})
		t.group.Go(func() {
			defer close(broken)
			upload(ctx, server)
		})
		err = t.read(client, broken, first)
		client.Close()
		server.Close()
		<-broken
		first = nil
		if err != nil && ctx.Err() == nil {
			t.mu.Lock()
			t.cuts++
			t.mu.Unlock()
		}
	}
}

// connect gives both ends.
func (t *transfer) connect() (client *lab.Conn, server net.Conn, err error) {
	client, err = t.g.LAN1.DialTCP(again, fmt.Sprintf("%s:%d", lab.Outside, transferPort), lab.NoGreeting())
	if err != nil {
		return nil, nil, err
	}
	// The end of ctx closes the listener, see stop.
	_ = t.listener.(*net.TCPListener).SetDeadline(time.Now().Add(again))
	for {
		if server, err = t.listener.Accept(); err != nil {
			client.Close()
			return nil, nil, err
		}
		// An attempt that the client gave up may be in the queue before it.
		if server.RemoteAddr().(*net.TCPAddr).Port == int(client.Local().Port()) {
			return client, server, nil
		}
		server.Close()
	}
}

// upload writes until the server's end is told that it cannot.
func upload(ctx context.Context, server net.Conn) {
	tick := time.NewTicker(chunkEvery)
	defer tick.Stop()
	piece := make([]byte, chunk)
	for ctx.Err() == nil {
		if _, err := server.Write(piece); err != nil {
			return
		}
		<-tick.C
	}
}

// read takes what comes, until nothing does.
func (t *transfer) read(client *lab.Conn, broken, first chan struct{}) error {
	buffer := make([]byte, 64*chunk)
	var last time.Time
	go func() {
		<-broken
		client.Close() // its end is not told
	}()
	for {
		select {
		case <-broken:
			return net.ErrClosed
		default:
		}
		if err := client.SetReadDeadline(time.Now().Add(silent)); err != nil {
			return err
		}
		if _, err := client.Read(buffer); err != nil {
			return err
		}
		now := time.Now()
		t.mu.Lock()
		if !last.IsZero() {
			t.stall = max(t.stall, now.Sub(last))
		}
		last = now
		close(t.progress)
		t.progress = make(chan struct{})
		t.mu.Unlock()
		if first != nil {
			close(first)
			first = nil
		}
	}
}

// moves waits until another piece arrives, on this connection or on the next.
func (t *transfer) moves() {
	t.mu.Lock()
	progress := t.progress
	t.mu.Unlock()
	select {
	case <-progress:
	case <-time.After(2 * silent):
	}
}

// stop ends the transfer, and tells how often it was cut and the longest that one connection stood still.
func (t *transfer) stop() (cuts int, stall time.Duration) {
	t.cancel()
	t.listener.Close()
	t.group.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cuts, t.stall
}
