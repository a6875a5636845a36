package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var metricRow = regexp.MustCompile("(?m)^\\| `(ipmasq_[a-z_]+)` \\| ([a-z]+) \\| ([^|]+) \\|([^|]*)\\| ([^|]+) \\|$")

// The page has every metric, with type, unit and labels, and no other.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range metricRow.FindAllStringSubmatch(string(page), -1) {
		if rows[m[1]] != nil {
			t.Errorf("the page has %s twice", m[1])
		}
		rows[m[1]] = m
	}
	for _, d := range table {
		row := rows[d.name]
		if row == nil {
			t.Errorf("the page lacks %s", d.name)
			continue
		}
		var labels []string
		for l := range strings.SplitSeq(row[4], ",") {
			if l = strings.Trim(l, " `"); l != "" {
				labels = append(labels, l)
			}
		}
		if row[2] != d.kind || row[3] != d.unit || !slices.Equal(labels, d.labels) {
			t.Errorf("%s is a %s of %s by %v, and on the page a %s of %s by %v", d.name, d.kind, d.unit, d.labels, row[2], row[3], labels)
		}
		delete(rows, d.name)
	}
	for name := range rows {
		t.Errorf("the page has %s, and there is no such metric", name)
	}
	for _, name := range named(string(page)) {
		if !exists(name) {
			t.Errorf("the page names %s, and there is no such metric", name)
		}
	}
}

var metricName = regexp.MustCompile(`\bipmasq_[a-z_]+`)

func named(text string) []string { return metricName.FindAllString(text, -1) }

// exists says whether a scrape has a series of that name.
func exists(name string) bool {
	return slices.ContainsFunc(table[:], func(d definition) bool {
		if d.kind == histogram {
			return slices.Contains([]string{d.name, d.name + "_bucket", d.name + "_sum", d.name + "_count"}, name)
		}
		return d.name == name
	})
}

// The alerts ask for metrics that there are.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../examples/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := named(string(text))
	if len(names) < 8 {
		t.Errorf("only %q are named", names)
	}
	for _, name := range names {
		if !exists(name) {
			t.Errorf("there is no %s", name)
		}
	}
}

// dashboard is what matters of Grafana's model.
type dashboard struct {
	ID     *int
	Title  string
	Panels []panel

	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
			Datasource source
		}
	}
}

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource source
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct {
		Expr       string
		Datasource source
	}
}

type source struct{ Type, UID string }

// The dashboard asks for metrics that there are, of the gateways that were
// chosen, and of no data source but the chosen one; it shows every metric.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../examples/grafana/ipmasq.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	chosen := source{"prometheus", "${datasource}"}
	if d.ID != nil || d.Title == "" || d.SchemaVersion == 0 {
		t.Errorf("Grafana would not import it: id %v, title %q, schema %d", d.ID, d.Title, d.SchemaVersion)
	}
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
		if v.Type == "query" && v.Datasource != chosen {
			t.Errorf("the variable %s asks %v", v.Name, v.Datasource)
		}
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" {
		t.Errorf("the variables are %v", variables)
	}
	shown, ids, cells := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q at %d, %d", p.Title, other, x, y)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("%s asks %v for %d things", p.Title, p.Datasource, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource != chosen || !strings.Contains(q.Expr, `{instance=~"$instance"`) {
				t.Errorf("%s asks %v for %s", p.Title, q.Datasource, q.Expr)
			}
			for _, name := range named(q.Expr) {
				if shown[name] = true; !exists(name) {
					t.Errorf("%s: there is no %s", p.Title, name)
				}
			}
		}
	}
	for _, m := range table {
		if !shown[m.name] && !shown[m.name+"_bucket"] {
			t.Errorf("no panel shows %s", m.name)
		}
	}
	// Whoever copies a dashboard out of Grafana brings its own source along.
	for _, m := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		if m[1] != chosen.UID && m[1] != "ipmasq" {
			t.Errorf("the uid %q is one of a single Grafana", m[1])
		}
	}
}
