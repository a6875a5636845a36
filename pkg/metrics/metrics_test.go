package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

var update = flag.Bool("update", false, "write the metrics of fixed statuses to testdata")

// scrape gives what a scrape of a host would, on which reading takes 12 ms.
func scrape(t *testing.T, s *engine.Status, err error, daemon func() Daemon) (text []byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		source := func(context.Context) (*engine.Status, error) {
			time.Sleep(12 * time.Millisecond)
			return s, err
		}
		text = exposition(t, New(source, daemon, built, nil))
	})
	return text
}

// exposition also has client_golang check names, types and labels.
func exposition(t *testing.T, c prometheus.Collector) []byte {
	t.Helper()
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(c)
	if _, err := pedantic.Gather(); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := write(&b, c); err != nil {
		t.Error(err)
	}
	return b.Bytes()
}

// What dashboards and alerts are made from, in full.
func TestGolden(t *testing.T) {
	var command bytes.Buffer
	if err := Write(&command, busy(), built); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{
		"daemon.txt":      scrape(t, busy(), nil, facts),
		"not-counted.txt": scrape(t, notCounted(), nil, func() Daemon { return Daemon{} }),
		"failed.txt":      scrape(t, nil, errors.New("no"), facts),
		"command.txt":     command.Bytes(),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		problems, err := promlint.New(bytes.NewReader(got)).Lint()
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

// Every metric of the table is told by a host that has everything: none is
// promised in vain, and the linter has seen them all.
func TestAllMetricsAreTold(t *testing.T) {
	text := scrape(t, busy(), nil, facts)
	for _, d := range table {
		if !bytes.Contains(text, fmt.Appendf(nil, "# TYPE %s %s\n", d.name, d.kind)) {
			t.Errorf("%s %s is not there", d.kind, d.name)
		}
	}
	if lines := bytes.Count(text, []byte("# TYPE ")); lines != len(table) {
		t.Errorf("%d metrics are told, and %d are in the table", lines, len(table))
	}
}

// A policy of a hundred thousand entries is as many series as one of five
// hundred in each section, and nothing of it is lost in sums.
func TestManyEntries(t *testing.T) {
	s := &engine.Status{FlowsCounted: true, TrafficCounted: true}
	for i := range 100000 {
		s.Entries = append(s.Entries, engine.Entry{Section: "port_forward", Name: fmt.Sprint("p", i), Flows: 2, Open: engine.Open{Flows: 3, Packets: 4, Bytes: 5}})
	}
	for i := range 600 {
		s.Entries = append(s.Entries, engine.Entry{Section: "forward", Name: fmt.Sprint("r", i), Packets: 7, Bytes: 8, Refuses: true})
	}
	s.Entries = append(s.Entries, engine.Entry{Section: "forward", Name: "default", Packets: 9, Refuses: true})
	text := string(scrape(t, s, nil, nil))
	for _, want := range []string{
		`ipmasq_entries{section="port_forward"} 100000`,
		`ipmasq_entry_new_flows_total{entry="p499",section="port_forward"} 2`,
		`ipmasq_entry_new_flows_total{entry="*",section="port_forward"} 199000`,
		`ipmasq_entry_open_flows_bytes{entry="*",section="port_forward"} 497500`,
		`ipmasq_entry_refused_packets_total{entry="*",section="forward"} 700`,
		`ipmasq_entry_refused_packets_total{entry="default",section="forward"} 9`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not there", want)
		}
	}
	if n := strings.Count(text, `section="port_forward"`); n != 1+501*4 {
		t.Errorf("%d series of port forwards, want %d", n, 1+501*4)
	}
}

// The name of an interface may hold any byte but a few: one that is no UTF-8
// must not spoil the scrape.
func TestOddInterface(t *testing.T) {
	s := &engine.Status{Uplinks: []engine.Uplink{{Zone: "wan", Interface: "ppp\xff\"\\", Up: true}}}
	if text := string(scrape(t, s, nil, nil)); !strings.Contains(text, `ipmasq_uplink_up{interface="ppp?\"\\",zone="wan"} 1`) {
		t.Errorf("got\n%s", text)
	}
}
