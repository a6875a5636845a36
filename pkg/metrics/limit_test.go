package metrics

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

// calls is a listener that always has another caller.
type calls struct{ net.Listener }

func (calls) Accept() (net.Conn, error) {
	_, c := net.Pipe()
	return c, nil
}

func (calls) Close() error { return nil }

// Connections that do nothing take no more than their share of the descriptors.
// The next one is taken when one of them goes, and a listener that is closed
// lets nobody wait.
func TestConnectionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(calls{})
		taken, ended := make(chan net.Conn, 2*connectionsAtOnce), make(chan error, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				taken <- c
			}
		}()
		synctest.Wait()
		if n := len(taken); n != connectionsAtOnce {
			t.Fatalf("%d connections are taken, want %d", n, connectionsAtOnce)
		}
		c := <-taken
		c.Close()
		c.Close() // the server may do so twice
		synctest.Wait()
		if n := len(taken); n != connectionsAtOnce {
			t.Errorf("%d connections are open, want %d", n, connectionsAtOnce)
		}
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept at the end: %v", err)
		}
		for len(taken) > 0 {
			(<-taken).Close()
		}
		if len(l.slots) != 0 {
			t.Errorf("%d places are not given back", len(l.slots))
		}
	})
}

// All that Listen binds is bounded.
func TestListenersAreLimited(t *testing.T) {
	t.Parallel()
	s, err := Listen(t.Context(), "127.0.0.1:0", quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(s.listeners)
	for _, l := range s.listeners {
		if _, bounded := l.(*limited); !bounded {
			t.Errorf("%v is a %T", l.Addr(), l)
		}
	}
}
