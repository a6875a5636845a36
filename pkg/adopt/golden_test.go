package adopt

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// corpus gives the rulesets of testdata, each with its files.
func corpus(t testing.TB) map[string][]Input {
	t.Helper()
	folders, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]Input{}
	for _, f := range folders {
		if f.Name() == "fuzz" {
			continue
		}
		for _, name := range []string{"ipsets", "rules.v4", "rules.v6", "rules.json"} {
			text, err := os.ReadFile(filepath.Join("testdata", f.Name(), name))
			if err == nil {
				out[f.Name()] = append(out[f.Name()], Input{Name: name, Text: text})
			} else if !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	return out
}

// TestGolden imports the corpus. test/adopt compares the same policies with the
// rules in the kernel.
func TestGolden(t *testing.T) {
	for name, in := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			r, err := Import(in)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name, "policy.yaml"), r.Policy)
			var list bytes.Buffer
			for _, f := range r.Findings {
				fmt.Fprintf(&list, "%s %s: %s\n", f.Level, f.Place(), f.Message)
			}
			golden(t, filepath.Join("testdata", name, "findings.txt"), list.Bytes())
			p, err := policy.Parse("policy.yaml", r.Policy)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := compile.Compile(p, compile.Facts{}); err != nil {
				t.Error(err)
			}
			again, err := Import(in)
			if err != nil || !bytes.Equal(again.Policy, r.Policy) {
				t.Errorf("a second import is another one: %v", err)
			}
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is another one now:\n%s", file, got)
	}
}
