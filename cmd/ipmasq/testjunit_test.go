package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// junitElement is what the format's schema says of an element: where it stands,
// and which attributes it has to have.
type junitElement struct {
	within     string
	attributes []string
}

// What is written is what CI systems read: the elements and attributes of the
// schema, in the places that it gives them, and numbers that add up.
func TestJUnitSchema(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"p.yaml": "version: 1\nzones: {lan: {interfaces: eth1, networks: 192.168.1.0/24}, wan: {interfaces: eth0}}\nmasquerade: {from: lan, to: wan}\n" +
			"port_forward: {from: wan, protocol: tcp, ports: 80, to: 192.168.1.10}\n",
		"p.test.yaml": "tests:\n" +
			"  - {name: \"<good> & \\\"well\\\"\", packet: {from: lan, source: 192.168.1.20, destination: 9.9.9.9, protocol: udp, port: 53}, expect: {verdict: accept}}\n" +
			"  - {name: \"]]> bad\", packet: {from: lan, source: 192.168.1.20, destination: 9.9.9.9, protocol: udp, port: [53, 54]}, expect: {verdict: drop}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" }}
	if code := p.run([]string{"test", "-o", "junit", "--min-coverage", "100", dir}); code != exitFailed || stderr.Len() > 0 {
		t.Fatalf("exit code %d\n%s", code, &stderr)
	}
	schema := map[string]junitElement{
		"testsuites": {"", []string{"tests", "failures", "errors", "time"}},
		"testsuite":  {"testsuites", []string{"name", "tests", "failures", "errors", "skipped", "time"}},
		"testcase":   {"testsuite", []string{"name", "classname", "file", "line", "time"}},
		"failure":    {"testcase", []string{"message", "type"}},
	}
	seen := map[string]int{}
	sums := map[string]int{}
	var open []string
	d := xml.NewDecoder(bytes.NewReader(stdout.Bytes()))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, &stdout)
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			rule, known := schema[name]
			within := ""
			if len(open) > 0 {
				within = open[len(open)-1]
			}
			if !known || rule.within != within {
				t.Errorf("<%s> stands in <%s>", name, within)
			}
			var has []string
			for _, a := range token.Attr {
				has = append(has, a.Name.Local)
				n, err := strconv.ParseFloat(a.Value, 64)
				switch a.Name.Local {
				case "tests", "failures", "errors", "skipped", "line", "time":
					if err != nil || n < 0 {
						t.Errorf("%s of <%s> is %q", a.Name.Local, name, a.Value)
					}
					sums[name+" "+a.Name.Local] += int(n)
				}
			}
			if !slices.Equal(slices.Sorted(slices.Values(has)), slices.Sorted(slices.Values(rule.attributes))) {
				t.Errorf("<%s> has %v, want %v", name, has, rule.attributes)
			}
			seen[name]++
			open = append(open, name)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	for _, of := range []string{"testsuites", "testsuite"} {
		if sums[of+" tests"] != seen["testcase"] || sums[of+" failures"] != seen["failure"] {
			t.Errorf("%s: %d tests and %d failures, and there are %d and %d", of, sums[of+" tests"], sums[of+" failures"], seen["testcase"], seen["failure"])
		}
	}
	if seen["testcase"] != 3 || seen["failure"] != 2 {
		t.Errorf("%v\n%s", seen, &stdout)
	}
}
