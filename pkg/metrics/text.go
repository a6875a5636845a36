package metrics

import (
	"fmt"
	"io"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// snapshot is a status that was read already.
type snapshot struct {
	descs descriptions
	list  []prometheus.Metric
}

// Describe tells the names of all metrics.
func (s *snapshot) Describe(to chan<- *prometheus.Desc) { s.descs.tell(to) }

// Collect gives the status.
func (s *snapshot) Collect(to chan<- prometheus.Metric) { tell(to, s.list) }

// Write prints a status in Prometheus' text format, version 0.0.4. There is no
// daemon in it, nor how long it took to read.
func Write(w io.Writer, st *engine.Status, build Build) error {
	into := samples{descs: describe()}
	into.add(up, 1)
	into.build(build)
	into.status(st)
	return write(w, &snapshot{into.descs, into.list})
}

func write(w io.Writer, c prometheus.Collector) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		return fmt.Errorf("describe metrics: %w", err)
	}
	families, err := registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}
