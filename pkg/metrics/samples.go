package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// descriptions are what client_golang wants to know of each metric.
type descriptions [metricCount]*prometheus.Desc

func describe() (out descriptions) {
	for m, d := range &table {
		out[m] = prometheus.NewDesc(d.name, d.help, d.labels, nil)
	}
	return out
}

func (d *descriptions) tell(to chan<- *prometheus.Desc) {
	for _, x := range d {
		to <- x
	}
}

func tell(to chan<- prometheus.Metric, list []prometheus.Metric) {
	for _, m := range list {
		to <- m
	}
}

// samples are values on their way to a scrape.
type samples struct {
	descs descriptions
	list  []prometheus.Metric
}

// add notes a value; labels are in the order of the definition.
func (s *samples) add(m metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if table[m].kind == counter {
		kind = prometheus.CounterValue
	}
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "?") // the name of an interface may hold any byte
	}
	sample, err := prometheus.NewConstMetric(s.descs[m], kind, value, labels...)
	s.append(m, sample, err)
}

// append has the scrape tell of a value that cannot be, and go on.
func (s *samples) append(m metric, sample prometheus.Metric, err error) {
	if err != nil {
		sample = prometheus.NewInvalidMetric(s.descs[m], err)
	}
	s.list = append(s.list, sample)
}

func (s *samples) build(b Build) { s.add(buildInfo, 1, b.Version, b.Revision, b.GoVersion) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
