package metrics

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is bound to its addresses, and serves once it is told to.
type Server struct {
	listeners []net.Listener
	http      *http.Server
}

// Listen binds an address, as ParseAddress reads it, in the network namespace of
// the process. Connections wait until Serve.
func Listen(ctx context.Context, addr string, c *Collector) (*Server, error) {
	list, err := listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	s := &Server{http: &http.Server{
		Handler:           handler(c),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // patience, and a slow reader
		IdleTimeout:       2 * time.Minute,  // more than between two scrapes
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // what clients do wrong is theirs
	}}
	for _, l := range list {
		s.listeners = append(s.listeners, newLimited(l))
	}
	return s, nil
}

// Addrs are the addresses that it is bound to.
func (s *Server) Addrs() []net.Addr {
	var out []net.Addr
	for _, l := range s.listeners {
		out = append(out, l.Addr())
	}
	return out
}

// Serve answers until the context ends, which is no error. Scrapes that are
// going on have a second to end.
func (s *Server) Serve(ctx context.Context) error {
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() { failed <- s.http.Serve(l) }()
	}
	var err error
	running := len(s.listeners)
	select {
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.http.Shutdown(end)
	case err = <-failed:
		running--
	}
	s.http.Close()
	closeAll(s.listeners) // those that had not come to serve
	for range running {
		<-failed
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

const index = `<!doctype html>
<title>ipmasq</title>
<h1>ipmasq</h1>
<p><a href="/metrics">metrics</a></p>
`

// handler answers at / and /metrics, and nowhere else. The metrics of the
// process itself come along: its memory and file descriptors among them.
func handler(c *Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // one value that cannot be must not hide the others
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, index)
	})
	return mux
}
