package stage_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/policytest"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/ipmasq/ipmasq/pkg/stage"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// applier puts a policy in force as the program does.
func applier(p *policy.Policy) func(ns *link.NetNS, dir string) error {
	return func(ns *link.NetNS, dir string) error {
		d, err := state.Open(dir)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
		defer cancel()
		_, err = (&engine.Engine{Backend: nftables.New(ns.Do), State: d, NetNS: ns, KeepFlows: true}).Apply(ctx, p)
		return err
	}
}

// stand builds the gateway that a test file is about.
func stand(t *testing.T, name string) (*policytest.Gateway, *stage.Gateway) {
	t.Helper()
	lab.New(t)
	lab.Require(t, lab.NFTables())
	f, err := policytest.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := f.Gateway()
	if err != nil {
		t.Fatal(err)
	}
	s := stage.New(*g.Host, applier(g.Policy))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, s
}

// All that can become of a packet, in each protocol and family: the simulation
// and the kernel say what is expected, and so the same.
func TestEverything(t *testing.T) {
	g, s := stand(t, "testdata/everything.test.yaml")
	results, err := g.Run(kernel{s})
	if err != nil {
		t.Fatal(err)
	}
	met := map[simulate.Verdict]bool{}
	for _, r := range results {
		for _, p := range r.Packets {
			met[p.Kernel.Verdict] = true
			for _, d := range p.Differences {
				t.Errorf("%s: %+v: %s: expected %s, got %s by %s", r.Test.Name, p.Packet.Packet, d.Field, d.Expected, d.Got, d.By)
			}
		}
	}
	for _, v := range []simulate.Verdict{simulate.Forwarded, simulate.Delivered, simulate.Dropped, simulate.Rejected, simulate.Synproxy, simulate.Unrouted} {
		if !met[v] {
			t.Errorf("no packet met %s", v)
		}
	}
}

// The kernel's word counts: what a policy would do that is not in force there is
// found out.
func TestKernelDiffers(t *testing.T) {
	g, _ := stand(t, "testdata/everything.test.yaml")
	empty, err := policy.Parse("empty.yaml", []byte("version: 1\ngateway: {forwarding: {ipv4: true, ipv6: true}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := stage.New(*g.Host, applier(empty))
	defer s.Close()
	results, err := g.Run(kernel{s})
	if err != nil {
		t.Fatal(err)
	}
	differ := map[string]int{}
	for _, r := range results {
		for _, p := range r.Packets {
			for _, d := range p.Differences {
				if d.By != policytest.ByKernel {
					t.Errorf("%s: %+v", r.Test.Name, d)
				}
				differ[d.Field]++
			}
		}
	}
	for _, field := range []string{"verdict", "source", "source_port", "destination"} {
		if differ[field] == 0 {
			t.Errorf("nothing differs in %s: %v", field, differ)
		}
	}
}

// A gateway begins anew, and packets of one come one after the other.
func TestFresh(t *testing.T) {
	g, s := stand(t, "testdata/everything.test.yaml")
	i := slices.IndexFunc(g.File.Tests, func(x policytest.Test) bool { return x.Name == "pools in turn" })
	packets := g.File.Tests[i].Packets
	turn := func() netip.Addr {
		t.Helper()
		p := packets[0].Packet
		p.Interface, p.TCPFlags = "eth1", ruleset.TCPSyn
		p.SourcePort += uint16(len(packets)) // of a flow that there is none of
		packets = append(packets, packets[0])
		seen, err := s.Send(p)
		if err != nil || seen.Verdict != simulate.Forwarded {
			t.Fatalf("%+v, %v", seen, err)
		}
		return seen.Left.Source
	}
	first, second := turn(), turn()
	if first == second {
		t.Errorf("both packets left as %s", first)
	}
	if third := turn(); third != first {
		t.Errorf("the third packet left as %s, and the first as %s", third, first)
	}
	if err := s.Fresh(); err != nil {
		t.Fatal(err)
	}
	if again := turn(); again != first {
		t.Errorf("on a new gateway the first left as %s, before as %s", again, first)
	}
}

// The namespace that a stage is made from stays as it is.
func TestNothingIsTouched(t *testing.T) {
	before := here(t)
	g, s := stand(t, "testdata/everything.test.yaml")
	if _, err := g.Run(kernel{s}); err != nil {
		t.Fatal(err)
	}
	if after := here(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// here is what the namespace of the test has: links, routes, rules, sysctls and
// open files.
func here(t *testing.T) string {
	t.Helper()
	lab.New(t)
	facts, err := link.Read()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := nftables.New(func(f func() error) error { return f() }).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	forwarding, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v\ngeneration %d\nforwarding %s%s", facts, rules, forwarding, mounts)
}

type kernel struct{ *stage.Gateway }

func (k kernel) Send(p simulate.Packet) (policytest.Seen, error) {
	x, err := k.Gateway.Send(p)
	return policytest.Seen{Verdict: x.Verdict, Out: x.Out, Left: x.Left}, err
}
