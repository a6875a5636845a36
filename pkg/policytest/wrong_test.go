package policytest_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
)

// What is said of each wrong test file: x.test.yaml and x.out of testdata/wrong.
func TestWrong(t *testing.T) {
	t.Chdir("testdata/wrong")
	names, err := filepath.Glob("*.test.yaml")
	if err != nil || len(names) < 13 {
		t.Fatalf("%d wrong test files (%v)", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(name, policytest.Suffix), func(t *testing.T) {
			f, err := policytest.Load(name)
			if err == nil {
				_, err = f.Gateway()
			}
			var bad *policytest.Invalid
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want mistakes", err)
			}
			var got bytes.Buffer
			policy.Print(&got, bad.Errors, bad.Sources)
			for _, e := range bad.Errors {
				if strings.HasSuffix(e.Message, ".") {
					t.Errorf("a message that ends in a full stop: %q", e.Message)
				}
				if e.Line < 1 || e.Column < 1 {
					t.Errorf("%v has no place", e)
				}
			}
			golden(t, strings.TrimSuffix(name, policytest.Suffix)+".out", got.Bytes())
		})
	}
}
