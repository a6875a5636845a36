package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// patience bounds a reading: half of what Prometheus waits unless it is told
	// otherwise. Grace is for a source to notice.
	patience = 5 * time.Second
	grace    = 500 * time.Millisecond
	// fresh is how long a reading is good for: scrapes of two servers, or of a
	// server and a person, cost one.
	fresh = time.Second
)

var errLate = errors.New("reading the host takes too long")

// reading is what one look at the host came to.
type reading struct {
	metrics []prometheus.Metric
	err     error
	took    time.Duration
	ended   time.Time
}

// reader reads the host, never twice at once, however many ask.
type reader struct {
	read   func(context.Context) ([]prometheus.Metric, error)
	failed func(error)

	mu      sync.Mutex
	running chan struct{} // closed when the reading that is going on ends; nil: none is
	late    bool          // failed was told that it takes too long
	last    reading

	telling sync.Mutex
}

// get gives a reading that is fresh. A source that does not heed its deadline
// goes on reading, and nobody starts another one beside it.
func (r *reader) get() reading {
	r.mu.Lock()
	if r.running == nil {
		if !r.last.ended.IsZero() && time.Since(r.last.ended) < fresh {
			defer r.mu.Unlock()
			return r.last
		}
		r.running, r.late = make(chan struct{}), false
		go r.run(r.running)
	}
	running := r.running
	r.mu.Unlock()
	late := time.NewTimer(patience + grace)
	defer late.Stop()
	select {
	case <-running:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.last
	case <-late.C:
		r.mu.Lock()
		told := r.late
		r.late = true
		r.mu.Unlock()
		if !told {
			r.tell(errLate)
		}
		return reading{err: errLate}
	}
}

func (r *reader) run(running chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	metrics, err := r.read(ctx)
	if err != nil {
		r.tell(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	end := time.Now()
	r.last = reading{metrics, err, end.Sub(start), end}
	r.running = nil
	close(running)
}

func (r *reader) tell(err error) {
	if r.failed != nil {
		r.telling.Lock()
		defer r.telling.Unlock()
		r.failed(err)
	}
}
