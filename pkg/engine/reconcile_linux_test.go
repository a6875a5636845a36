package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
)

const (
	forwardA = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.10:8080"}
`
	forwardB = `version: 1
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24]}
  wan: {interfaces: [eth0]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: "192.168.1.11:8080"}
`
)

// forwarded is an engine on a gateway with a flow through a port forward, and
// what opens another one.
func forwarded(t *testing.T) (b *bench, open func()) {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	lab.Require(t, lab.NFTables())
	b = benchOn(t, topo.GW, filepath.Join(topo.Dir(), "state"))
	b.mustApply(forwardA)
	topo.LAN1.ServeTCP(":8080")
	topo.LAN2.ServeTCP(":8080")
	open = func() {
		c, err := topo.Server.DialTCP(lab.Patience, lab.GatewayUplink+":80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Abort() })
	}
	open()
	return b, open
}

func (b *bench) pending() *state.Pending {
	b.t.Helper()
	s, err := b.State.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Pending
}

// Where cutting does not come to its end the apply has succeeded, says so, and
// the next one cuts.
func TestCuttingIsTriedAgain(t *testing.T) {
	b, _ := forwarded(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	b.after("remember", func() { cancel(enough) })
	pl, err := b.Apply(ctx, parse(t, forwardB))
	if err != nil || !errors.Is(pl.Cut.Problem, enough) || !pl.Cut.Retries || pl.Cut.Total > 1 {
		t.Fatalf("%+v, %v", pl.Cut, err)
	}
	if !b.inForce(forwardB) || len(b.translated()) != 1 {
		t.Error("the rules are not in force, or the flow is cut")
	}
	if p := b.pending(); p == nil || len(p.Before) != 1 {
		t.Errorf("remembered: %+v", p)
	}
	// A plan says so too, as often as it is asked.
	for range 2 {
		planned, err := b.Plan(context.Background(), parse(t, forwardB))
		if err != nil || planned.Cut.Total != 1 || !planned.Empty() {
			t.Errorf("planned %+v, %v", planned, err)
		}
	}
	pl = b.mustApply(forwardB)
	if pl.Cut.Total != 1 || pl.Cut.Problem != nil || len(b.translated()) != 0 || b.pending() != nil {
		t.Errorf("applied again: %+v; left: %v; remembered: %+v", pl.Cut, b.translated(), b.pending())
	}
	want := "1 of port_forward web, which would go to 192.168.1.11:8080"
	if got := pl.Cut.By[0].String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is not known of the policy before is said, and asked no more.
func TestCuttingByAForgottenPolicy(t *testing.T) {
	b, _ := forwarded(t)
	s, err := b.State.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "policy-"+s.Applied.Digest[:16]+".gz"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	pl := b.mustApply(forwardB)
	if pl.Cut.Total != 0 || pl.Cut.Problem == nil || pl.Cut.Retries || !strings.Contains(pl.Cut.Problem.Error(), "what the policy before translated is not known") {
		t.Errorf("%+v", pl.Cut)
	}
	if again := b.mustApply(forwardB); again.Cut.Problem != nil || b.pending() != nil {
		t.Errorf("%+v", again.Cut)
	}
}

// Flows cost what is not changed nothing, and neither does a change where there
// are none.
func TestFlowsAreReadOnlyWhereTheyMatter(t *testing.T) {
	read := func(b *bench, text string) bool {
		steps := []string{}
		b.Step = func(name string, _ time.Duration) { steps = append(steps, name) }
		b.mustApply(text)
		b.Step = nil
		return slices.Contains(steps, "flows")
	}
	b, open := forwarded(t)
	for _, c := range []struct {
		what, text string
		reads      bool
	}{
		{"the same policy", forwardA, false},
		{"another text", "# a comment\n" + forwardA, false},
		{"another policy", forwardB, true},
		{"the same policy", forwardB, false},
	} {
		if got := read(b, c.text); got != c.reads {
			t.Errorf("%s: read flows: %v", c.what, got)
		}
	}
	open()
	b.host.Run(t, "nft", "add table ip foreign")
	if read(b, forwardB) {
		t.Error("somebody else's table has flows read")
	}
	b.host.Run(t, "nft", "flush table inet ipmasq")
	if !read(b, forwardB) {
		t.Error("rules that were gone have no flows read")
	}
	quiet := newBench(t)
	for _, text := range []string{forwardA, forwardB, policyNone} {
		if read(quiet, text) || quiet.pending() != nil {
			t.Error("a host without flows has them read")
		}
	}
}
