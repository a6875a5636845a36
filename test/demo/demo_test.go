package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// The demo is the first thing that anybody sees of the project: it must come
// true on every machine that the tests run on, and fit a terminal.
func TestDemo(t *testing.T) {
	lab.Require(t, lab.NFTables())
	var out bytes.Buffer
	defer func() {
		if t.Failed() {
			t.Logf("what was printed until then:\n%s", &out)
		}
	}()
	run(t, &out)
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(line); n > 101 {
			t.Errorf("a line of %d characters: %s", n-1, line)
		}
	}
}
