package main

import (
	"os"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// Tables are what people read: they are compared as a whole.
func TestFlowTables(t *testing.T) {
	now, list, _ := testFlows()
	list = append(list[:4:4], list[5:]...) // not the one with odd text
	for _, format := range []string{"table", "wide"} {
		want, err := os.ReadFile("testdata/connections/" + format + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if got := printed(t, format, now, list); got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", format, got, want)
		}
	}
}

// The columns stand below each other though the table is not held in memory;
// what is wider than the first rows keeps a distance.
func TestFlowTableStreams(t *testing.T) {
	now, list, _ := testFlows()
	table := newFlowTable(false, now)
	var text []byte
	for i := range measured + 2 {
		f := list[3]
		if i > measured {
			f = list[1]
		}
		n := len(text)
		text = table.append(text, &f.Flow, &f.Judgement)
		if printed := len(text) > n; printed != (i >= measured-1) {
			t.Fatalf("row %d: printed %v", i, printed)
		}
	}
	lines := strings.Split(strings.TrimSuffix(string(table.end(text)), "\n"), "\n")
	if len(lines) != measured+3 {
		t.Fatalf("%d lines", len(lines))
	}
	if at := strings.Index(lines[0], "DESTINATION"); at != strings.Index(lines[1], "10.0.0.2") || at != strings.Index(lines[measured], "10.0.0.2") {
		t.Errorf("columns:\n%s\n%s\n%s", lines[0], lines[1], lines[measured])
	}
	if last := lines[measured+2]; !strings.Contains(last, "[2001:db8:9::1]:1  [2001:db8::1]:80  ") {
		t.Errorf("the wide row: %s", last)
	}
}

// A flow that plan and top print in one line has the protocol's name that list
// has.
func TestFlowNames(t *testing.T) {
	for n := range 256 {
		f := conntrack.Flow{Protocol: uint8(n)}
		if name, _, _ := strings.Cut(f.String(), " "); name != policy.ProtocolName(uint8(n)) {
			t.Errorf("protocol %d is %s in a line, and %s in a table", n, name, policy.ProtocolName(uint8(n)))
		}
	}
}
