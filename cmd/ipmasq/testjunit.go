package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policytest"
)

// JUnit's format, as CI systems read it: suites of cases, of which some have a
// failure (the schema of the Apache Ant task, and of Jenkins' plugin).
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",cdata"`
}

func writeJUnit(w io.Writer, r *testRun) error {
	out := junitSuites{Tests: r.passed + r.failed, Failures: r.failed}
	total := 0.0
	for i := range r.files {
		s := junitSuiteOf(&r.files[i])
		s.Time = junitTime(r.took[i].Seconds())
		total += r.took[i].Seconds()
		out.Suites = append(out.Suites, s)
	}
	for i := range r.coverage {
		if cover := &r.coverage[i]; r.least > 0 {
			s := junitSuite{Name: "coverage of " + strings.Join(cover.Policies, " "), Tests: 1, Time: junitTime(0), Cases: []junitCase{{
				Name: fmt.Sprintf("%d%% of the entries are met", r.least), Class: "coverage", File: cover.Policies[0], Line: 1, Time: junitTime(0),
			}}}
			if cover.Percent() < r.least {
				s.Failures = 1
				s.Cases[0].Failure = uncovered(cover)
				out.Failures++
			}
			out.Tests++
			out.Suites = append(out.Suites, s)
		}
	}
	out.Time = junitTime(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitTime(s float64) string { return fmt.Sprintf("%.3f", s) }

func uncovered(c *policytest.Coverage) *junitFailure {
	f := &junitFailure{Message: fmt.Sprintf("%d%% of the entries are met", c.Percent()), Type: "coverage"}
	for _, e := range c.Entries {
		if e.Packets == 0 {
			f.Text += fmt.Sprintf("%s: no test has come by %s\n", e.Place, e.Entry)
		}
	}
	return f
}

func junitSuiteOf(t *policytest.Tested) junitSuite {
	s := junitSuite{Name: t.File.Name, Tests: len(t.Results)}
	class := strings.TrimSuffix(t.File.Name, policytest.Suffix)
	for i := range t.Results {
		r := &t.Results[i]
		one := junitCase{Name: r.Test.Name, Class: class, File: r.Test.File, Line: r.Test.Line, Time: junitTime(r.Took.Seconds())}
		if r.Failed() {
			s.Failures++
			one.Failure = &junitFailure{Type: "expectation"}
			for _, x := range r.Packets {
				if len(x.Differences) == 0 {
					continue
				}
				one.Failure.Text += packetText(&x.Simulated.Packet) + "\n"
				for _, d := range x.Differences {
					if one.Failure.Message == "" {
						one.Failure.Message = fmt.Sprintf("%s: expected %s, got %s", d.Field, d.Expected, d.Got)
					}
					one.Failure.Text += "  " + differenceLine(d) + "\n"
				}
			}
		}
		s.Cases = append(s.Cases, one)
	}
	return s
}
