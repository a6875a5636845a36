// Package interop holds the tests that compare what ipmasq puts into the kernel with what nft(8) makes of the
// text that ipmasq renders.
package interop

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// policies are the examples, and all policies that golden files were made of.
func policies(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../../examples/*.yaml", "../../pkg/compile/testdata/*.yaml", "../../pkg/compile/testdata/*/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 20 {
		t.Fatalf("only %d policies found: did they move?", len(all))
	}
	return all
}

// Three ways lead to the same table: our batch, nft -f of our text, and nft -f
// of what nft lists then. To the byte, as the kernel dumps it.
func TestTextIsWhatIsCommitted(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	for _, file := range policies(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			p, err := policy.Load([]string{file}, policy.LoadOptions{})
			if err == nil {
				var r *compile.Result
				if r, err = compile.Compile(p, compile.Facts{}); err == nil {
					compare(t, r)
					return
				}
			}
			if errors.As(err, new(policy.Errors)) {
				t.Skip("the policy is an example of a mistake")
			}
			t.Fatal(err)
		})
	}
}

func compare(t *testing.T, r *compile.Result) {
	for _, x := range r.Ruleset.Timeouts {
		if x.Protocol != 6 && x.Protocol != 17 {
			t.Skipf("nft(8) has no words for the timeouts of protocol %d", x.Protocol)
		}
	}
	l := lab.New(t)
	batch, text, again := l.Host("batch"), l.Host("text"), l.Host("again")
	b := nftables.New(batch.Do)
	want, err := b.Want(r.Ruleset)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	have, err := b.Have(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx, plan.Diff(have, want), false); err != nil {
		t.Fatal(err)
	}
	var rendered strings.Builder
	if err := nftables.Text(&rendered, r.Ruleset); err != nil {
		t.Fatal(err)
	}
	text.Feed(t, rendered.String(), "nft", "-f", "-")
	same(t, "nft -f of the rendered text", want, text)
	if want.Empty() {
		return
	}
	list := func(h *lab.Host) string { return h.Run(t, "nft", "list", "table", "inet", nftables.Table) }
	ours, theirs := list(batch), list(text)
	if ours != theirs {
		t.Errorf("nft lists the batch as\n%s\nand the text as\n%s", ours, theirs)
	}
	again.Feed(t, ours, "nft", "-f", "-")
	// nft(8) reads the reject that it lists without a kind as that of the
	// family that the rule is about, which is the same packet.
	plain := strings.NewReplacer("reject with icmp port-unreachable", "reject", "reject with icmpv6 port-unreachable", "reject")
	if listed := plain.Replace(list(again)); listed != ours {
		t.Errorf("loaded again, nft lists\n%s\nwhich was\n%s", listed, ours)
	}
}

// same reads a host's table back and compares it to the byte.
func same(t *testing.T, what string, want *plan.Snapshot, h *lab.Host) bool {
	t.Helper()
	have, err := nftables.New(h.Do).Have(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	d := plan.Diff(have, want)
	if !d.Empty() {
		t.Errorf("%s makes another table: %s", what, d.Summary())
		for _, e := range d.Entries() {
			t.Logf("%c %s %s", e.Sign, e.Name(), e.Detail())
		}
	}
	return d.Empty()
}
