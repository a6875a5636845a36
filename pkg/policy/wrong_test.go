package policy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the .out files of testdata/wrong")

// inTestdata reads referred files as if the tests ran in testdata/wrong, so
// that places do not name the folder.
func inTestdata(path string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join("testdata", "wrong", path))
	return text, bare(err)
}

// TestWrong holds what is printed for each wrong policy against x.out.
func TestWrong(t *testing.T) {
	names, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(names) < 90 {
		t.Fatalf("%d wrong policies (%v)", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parse(filepath.Base(name), text, inTestdata)
			errs, ok := err.(Errors)
			if !ok || len(errs) == 0 {
				t.Fatalf("got %v, want errors", err)
			}
			placesInside(t, p, errs)
			for _, e := range errs {
				if strings.HasSuffix(e.Message, ".") {
					t.Errorf("a message that ends in a full stop: %q", e.Message)
				}
			}
			var got bytes.Buffer
			Print(&got, errs, p.Sources)
			golden := strings.TrimSuffix(name, ".yaml") + ".out"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got:\n%s\nwant:\n%s", got.Bytes(), want)
			}
		})
	}
}

// placesInside checks that every place that an error names is in its file.
func placesInside(t *testing.T, p *Policy, errs Errors) {
	t.Helper()
	texts := map[string]*lines{}
	for _, s := range p.Sources {
		texts[s.Name] = &lines{text: s.Text}
	}
	inside := func(at Place) {
		l := texts[at.File]
		if l == nil || at.Line < 1 || at.Line > l.count() || at.Column < 1 || at.Column > len(l.line(at.Line))+1 {
			t.Errorf("%s is not inside a file that was read", at)
		}
	}
	for _, e := range errs {
		inside(e.Place)
		for _, n := range e.Notes {
			inside(n.Place)
		}
		if e.Message == "" {
			t.Errorf("%s: no message", e.Place)
		}
	}
}
