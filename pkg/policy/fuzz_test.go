package policy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse holds what every text must give: an end, no panic, and for every
// mistake a place that is inside the file.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/wrong/*.yaml", "testdata/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("no seeds in %s (%v)", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	// The same text stands in for whatever file it names, as a set or a map.
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parse("dir/fuzz.yaml", text, func(path string) ([]byte, error) {
			if len(path)%2 == 0 {
				return nil, errors.New("not there")
			}
			return text, nil
		})
		if err == nil {
			return
		}
		errs, ok := err.(Errors)
		if !ok || len(errs) == 0 || p == nil {
			t.Fatalf("%v (%T), policy %v", err, err, p)
		}
		placesInside(t, p, errs)
		Print(&bytes.Buffer{}, errs, p.Sources)
	})
}
