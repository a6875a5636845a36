// Package interop holds the tests that compare what ipmasq puts into the kernel with what nft(8) makes of the
// text that ipmasq renders.
package interop

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { lab.Main(m) }

// policies are the examples, and all policies that golden files were made of.
func policies(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../../examples/*.yaml", "../../pkg/compile/testdata/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			if !strings.HasSuffix(name, ".test.yaml") {
				all = append(all, name)
			}
		}
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
			if err != nil {
				t.Fatal(err)
			}
			r, err := compile.Compile(p, compile.Facts{})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, r)
		})
	}
}

func compare(t *testing.T, r *compile.Result) {
	withoutWords(r.Ruleset)
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
	if _, err := text.TryFeed(rendered.String(), "nft", "-f", "-"); err != nil && strings.Contains(err.Error(), "Message too long") && ordinary() {
		t.Skip("nft sends more at once than an ordinary user may (net.core.wmem_max); root compares it")
	} else if err != nil {
		t.Fatal(err)
	}
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

// ordinary says whether the tests were started by an ordinary user: they are
// root in a user namespace of their own alone.
func ordinary() bool {
	ids, _ := os.ReadFile("/proc/self/uid_map")
	return len(strings.Fields(string(ids))) > 2 && strings.Fields(string(ids))[1] != "0"
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

// withoutWords takes out the timeouts that nft(8) 1.0.6 cannot say, and the
// rules that give them to flows. The rest has to be the same.
func withoutWords(rs *ruleset.Ruleset) {
	silent := map[string]bool{}
	rs.Timeouts = slices.DeleteFunc(rs.Timeouts, func(x *ruleset.Timeout) bool {
		silent[x.Name] = x.Protocol != unix.IPPROTO_TCP && x.Protocol != unix.IPPROTO_UDP
		return silent[x.Name]
	})
	for _, c := range rs.Chains {
		c.Rules = slices.DeleteFunc(c.Rules, func(r *ruleset.Rule) bool {
			return slices.ContainsFunc(r.Do, func(s ruleset.Statement) bool { return s.Kind == ruleset.SetTimeout && silent[s.Object] })
		})
	}
}
