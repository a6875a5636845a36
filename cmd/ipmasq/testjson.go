package main

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/policytest"
)

// testsDocument is what became of tests, as data.
type testsDocument struct {
	FormatVersion int                  `json:"format_version"`
	Kernel        bool                 `json:"kernel"`
	Passed        int                  `json:"passed"`
	Failed        int                  `json:"failed"`
	Files         []testFileDocument   `json:"files"`
	Coverage      []testedOfPolicyJSON `json:"coverage"`
}

type testFileDocument struct {
	File     string         `json:"file"`
	Policies []string       `json:"policies"`
	Seconds  float64        `json:"seconds"`
	Tests    []testDocument `json:"tests"`
}

type testDocument struct {
	Name    string               `json:"name"`
	Place   string               `json:"place"`
	Passed  bool                 `json:"passed"`
	Seconds float64              `json:"seconds"`
	Packets []testPacketDocument `json:"packets"`
}

type testPacketDocument struct {
	Place       string               `json:"place"`
	Packet      packetDocument       `json:"packet"`
	Simulation  seenDocument         `json:"simulation"`
	Kernel      *seenDocument        `json:"kernel"`
	Entries     []string             `json:"entries"`
	Differences []differenceDocument `json:"differences"`
	Disputed    []disputeDocument    `json:"disputed"`
	Steps       []stepDocument       `json:"steps"`
}

type seenDocument struct {
	Verdict   string     `json:"verdict"`
	To        string     `json:"to"`
	Interface string     `json:"interface"`
	Left      packetEnds `json:"left"`
}

type disputeDocument struct {
	Field      string `json:"field"`
	Simulation string `json:"simulation"`
	Kernel     string `json:"kernel"`
}

type differenceDocument struct {
	Field    string `json:"field"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
	By       string `json:"by"`
	Place    string `json:"place"`
}

type testedOfPolicyJSON struct {
	Policies []string               `json:"policies"`
	Percent  int                    `json:"percent"`
	Entries  []coveredEntryDocument `json:"entries"`
}

type coveredEntryDocument struct {
	Entry   string `json:"entry"`
	Place   string `json:"place"`
	Packets int    `json:"packets"`
}

func testsJSON(r *testRun) testsDocument {
	d := testsDocument{FormatVersion: formatVersion, Kernel: r.kernel, Passed: r.passed, Failed: r.failed,
		Files: []testFileDocument{}, Coverage: []testedOfPolicyJSON{}}
	for i, f := range r.files {
		file := testFileDocument{File: f.File.Name, Policies: f.File.Policies, Seconds: r.took[i].Seconds(), Tests: []testDocument{}}
		for k := range f.Results {
			file.Tests = append(file.Tests, testJSON(&f.Results[k]))
		}
		d.Files = append(d.Files, file)
	}
	for _, c := range r.coverage {
		cover := testedOfPolicyJSON{Policies: c.Policies, Percent: c.Percent(), Entries: []coveredEntryDocument{}}
		for _, e := range c.Entries {
			cover.Entries = append(cover.Entries, coveredEntryDocument{e.Entry, e.Place.String(), e.Packets})
		}
		d.Coverage = append(d.Coverage, cover)
	}
	return d
}

func testJSON(r *policytest.Result) testDocument {
	d := testDocument{Name: r.Test.Name, Place: r.Test.String(), Passed: !r.Failed(), Seconds: r.Took.Seconds(), Packets: []testPacketDocument{}}
	for _, x := range r.Packets {
		o := x.Simulated
		one := testPacketDocument{
			Place: x.Packet.Place.String(), Packet: packetJSON(&o.Packet), Entries: append([]string{}, policytest.Took(o)...),
			Simulation:  seenDocument{string(o.Verdict), o.To, o.Out, endsJSON(o.Left)},
			Differences: []differenceDocument{}, Disputed: []disputeDocument{}, Steps: stepsJSON(o.Steps),
		}
		if k := x.Kernel; k != nil {
			one.Kernel = &seenDocument{string(k.Verdict), k.To, k.Out, endsJSON(k.Left)}
		}
		for _, diff := range x.Differences {
			one.Differences = append(one.Differences, differenceDocument{diff.Field, diff.Expected, diff.Got, string(diff.By), diff.String()})
		}
		for _, dispute := range x.Disputed {
			one.Disputed = append(one.Disputed, disputeDocument{dispute.Field, dispute.Simulated, dispute.Kernel})
		}
		d.Packets = append(d.Packets, one)
	}
	return d
}

// differenceLine is a difference in a line.
func differenceLine(d policytest.Difference) string {
	return fmt.Sprintf("%s: %s: expected %s, got %s", d.Place, d.Field, d.Expected, d.Got)
}
