// Package metrics turns a Status, and what the daemon knows of itself, into
// Prometheus metrics, and serves them.
//
// A scrape reads the kernel then; there is no loop that reads for nobody. A
// read that fails or takes too long leaves ipmasq_up 0 and the daemon's own
// facts: a gateway that cannot be read is not a gateway without drift. The names
// are promised to dashboards and alerts: docs/metrics.md has them all, and a
// test keeps that page and definitions.go together.
package metrics

import (
	"context"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/prometheus/client_golang/prometheus"
)

// Source reads the host. It must not count flows however many there are
// (engine.Engine.CountFlows): a scrape would read a table of millions.
type Source func(context.Context) (*engine.Status, error)

// Build is what the program was built from; what is not known is "".
type Build struct{ Version, Revision, GoVersion string }

// Collector gives the metrics of one host. It keeps the metrics of the last
// reading for a second, and none of the status that they were made from.
type Collector struct {
	descs  descriptions
	build  Build
	daemon func() Daemon
	reader *reader
}

// New makes a collector. Daemon may be nil: there is none then, and none of its
// metrics. Failed is told of each reading that did not succeed,
// one at a time; it may be nil.
func New(source Source, daemon func() Daemon, build Build, failed func(error)) *Collector {
	c := &Collector{descs: describe(), build: build, daemon: daemon}
	c.reader = &reader{failed: failed, read: func(ctx context.Context) ([]prometheus.Metric, error) {
		s, err := source(ctx)
		if err != nil {
			return nil, err
		}
		into := &samples{descs: c.descs}
		into.status(s)
		return into.list, nil
	}}
	return c
}

// Describe tells the names of all metrics.
func (c *Collector) Describe(to chan<- *prometheus.Desc) { c.descs.tell(to) }

// Collect reads the host, if nobody has done it within the last second.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	r := c.reader.get()
	s := &samples{descs: c.descs}
	s.add(up, truth(r.err == nil))
	if r.took > 0 {
		s.add(readDuration, r.took.Seconds())
	}
	s.build(c.build)
	if c.daemon != nil {
		d := c.daemon()
		s.daemon(d)
		if r.err != nil {
			s.policy(d.Digest, d.Applied)
		}
	}
	tell(to, s.list)
	tell(to, r.metrics)
}
