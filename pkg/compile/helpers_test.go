package compile_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// TestHelperThatIsMissing has a kernel refuse a helper that it was built
// without, at the place where the policy asks for it.
func TestHelperThatIsMissing(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("policy.yaml", []byte(`version: 1
zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
masquerade: {from: lan, to: wan, helpers: [ftp, sane]}
`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := compile.Compile(p, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, f := context.Background(), &backendtest.Fake{}
	want, err := f.Want(r.Ruleset)
	if err != nil {
		t.Fatal(err)
	}
	have, err := f.Have(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Commit(ctx, plan.Diff(have, want), false)
	refused, ok := errors.AsType[*backend.Refused](err)
	if !ok || !errors.Is(err, backend.ErrNotSupported) {
		t.Fatalf("got %v, want it refused as not supported", err)
	}
	if place := (ruleset.Place{File: "policy.yaml", Line: 3, Column: 49}); refused.Origin.Place != place || !strings.Contains(err.Error(), "sane") {
		t.Errorf("got %v, want it at %v", err, place)
	}
}
