package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/urfave/cli/v2"
)

// testRun is what became of all tests.
type testRun struct {
	kernel         bool
	least          int // percent of the entries
	files          []policytest.Tested
	took           []time.Duration // for each file
	coverage       []policytest.Coverage
	passed, failed int
}

func (r *testRun) add(t policytest.Tested, took time.Duration) {
	r.files, r.took = append(r.files, t), append(r.took, took)
	for i := range t.Results {
		if t.Results[i].Failed() {
			r.failed++
		} else {
			r.passed++
		}
	}
}

// below says whether the tests of some policy leave out more than they may.
func (r *testRun) below() bool {
	for i := range r.coverage {
		if r.coverage[i].Percent() < r.least {
			return true
		}
	}
	return false
}

func (p *program) printTests(c *cli.Context, r *testRun) error {
	if c.String("output") == "junit" {
		return writeJUnit(p.stdout, r)
	}
	return p.output(c, func() any { return testsJSON(r) }, func(w io.Writer) {
		for i := range r.files {
			p.printTested(c, w, &r.files[i])
		}
		p.printCoverage(c, w, r)
		text, colour := counted(r.passed, "test", "tests")+" passed", green
		if r.failed > 0 {
			text, colour = fmt.Sprintf("%s failed, %d passed", counted(r.failed, "test", "tests"), r.passed), red
		}
		if r.kernel {
			text += ", by simulation and in the kernel"
		}
		fmt.Fprintln(w, p.colour(c, colour, text))
	})
}

// warnDisputed tells where the simulation and the kernel differ, whatever a test
// expects: who relies on the one should know.
func (p *program) warnDisputed(r *testRun) {
	for _, f := range r.files {
		for _, result := range f.Results {
			for _, x := range result.Packets {
				for _, d := range x.Disputed {
					p.warnf("%s: %s: the simulation and the kernel differ: %s is %s by simulation, and %s in the kernel", x.Packet.Place, result.Test.Name, d.Field, d.Simulated, d.Kernel)
				}
			}
		}
	}
}

// printTested prints a file: a line where all is well, else each test that
// failed.
func (p *program) printTested(c *cli.Context, w io.Writer, t *policytest.Tested) {
	failed := 0
	for i := range t.Results {
		r := &t.Results[i]
		if !r.Failed() {
			continue
		}
		failed++
		fmt.Fprintf(w, "%s %s: %s\n", p.colour(c, red, "FAIL"), r.Test.Place, r.Test.Name)
		way := true
		for k := range r.Packets {
			if x := &r.Packets[k]; len(x.Differences) > 0 {
				p.printFailure(c, w, x, way)
				way = false
			}
		}
	}
	if failed == 0 {
		fmt.Fprintf(w, "%s   %s: %s\n", p.colour(c, green, "ok"), t.File.Name, counted(len(t.Results), "test", "tests"))
	}
}

// printFailure prints a packet; the way that it took with the first of a test.
func (p *program) printFailure(c *cli.Context, w io.Writer, x *policytest.PacketResult, way bool) {
	o := &outcomePrinter{p, c, w}
	o.line("packet", "", packetText(&x.Simulated.Packet))
	for _, d := range x.Differences {
		who := ""
		switch {
		case d.By == policytest.ByKernel:
			who = "; so says the kernel, and the simulation does not"
		case d.By == policytest.BySimulation && x.Kernel != nil && !onlyRulesTell(d.Field):
			who = "; so says the simulation, and the kernel does not"
		}
		o.line(d.Field, red, fmt.Sprintf("expected %s, got %s%s (%s)", d.Expected, d.Got, who, d.Place))
	}
	if way {
		text, _ := verdictText(x.Simulated)
		o.line("outcome", "", text)
		if x.Simulated.Hint != "" {
			o.line("what helps", "", x.Simulated.Hint)
		}
		for _, n := range x.Simulated.Notes {
			o.line("note", yellow, n)
		}
		o.steps(x.Simulated.Steps)
	}
	fmt.Fprintln(w)
}

// onlyRulesTell says whether a field is one that nobody can see on the wire.
func onlyRulesTell(field string) bool { return field == "entry" || field == "mark" }

// printCoverage names what no test has met, and with --coverage all entries.
func (p *program) printCoverage(c *cli.Context, w io.Writer, r *testRun) {
	for i := range r.coverage {
		cover := &r.coverage[i]
		name := strings.Join(cover.Policies, " ")
		switch {
		case c.Bool("coverage"):
			fmt.Fprintf(w, "\n%s: %d of %s met\n", name, cover.Tested(), counted(len(cover.Entries), "entry", "entries"))
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for _, e := range cover.Entries {
				fmt.Fprintf(t, "  %s\t%s\t%s\n", e.Entry, counted(e.Packets, "packet", "packets"), e.Place)
			}
			t.Flush()
		case cover.Tested() < len(cover.Entries):
			fmt.Fprintf(w, "%s: no test has come by\n", name)
			for _, e := range cover.Entries {
				if e.Packets == 0 {
					fmt.Fprintf(w, "  %s: %s\n", policy.Place(e.Place), e.Entry)
				}
			}
		}
		if cover.Percent() < r.least {
			fmt.Fprintf(w, "%s %s: %d%% of the entries are met, and %d%% have to be\n", p.colour(c, red, "FAIL"), name, cover.Percent(), r.least)
		}
	}
	if c.Bool("coverage") {
		fmt.Fprintln(w)
	}
}
