package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/random"
)

// TestRandomPolicies applies policies of all sections in all combinations, one
// over the other: what is accepted can be committed whatever was there before,
// is what its text loads as, and goes without a trace. RANDOM_POLICIES=SEED:N
// makes N others.
func TestRandomPolicies(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	seed, n := uint64(1), 24
	if s, ok := os.LookupEnv("RANDOM_POLICIES"); ok {
		if _, err := fmt.Sscanf(s, "%d:%d", &seed, &n); err != nil {
			t.Fatalf("RANDOM_POLICIES=%s: %v", s, err)
		}
	}
	const chains = 4
	for i := range chains {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			over, pieces := lab.New(t).Host("over"), 0
			g := random.Generator{Rand: rand.New(rand.NewPCG(seed, uint64(i))), Offload: over.HasFlowtables()}
			for j := i; j < n; j += chains {
				facts := g.Facts()
				made, err := g.Policy(facts)
				if err != nil {
					t.Fatal(err)
				}
				text, r := made.Text, made.Compiled
				pieces += made.Pieces
				if !overIs(t, over, r) {
					t.Fatalf("seed %d, policy %d, facts %+v:\n%s", seed, j, facts, text)
				}
				if !t.Run(strconv.Itoa(j), func(t *testing.T) { compare(t, r) }) {
					t.Logf("facts %+v:\n%s", facts, text)
				}
			}
			if pieces < n/chains*8 {
				t.Errorf("%d policies have %d pieces together", n/chains, pieces)
			}
			empty, err := compile.Compile(&policy.Policy{}, compile.Facts{})
			if err != nil {
				t.Fatal(err)
			}
			overIs(t, over, empty)
			if left := over.Run(t, "nft", "list", "ruleset"); left != "" {
				t.Errorf("an empty policy leaves\n%s", left)
			}
		})
	}
}

// overIs commits a policy over what is there, tried first, and reads it back.
func overIs(t *testing.T, h *lab.Host, r *compile.Result) bool {
	t.Helper()
	b, ctx := nftables.New(h.Do), context.Background()
	want, err := b.Want(r.Ruleset)
	if err != nil {
		t.Error(err)
		return false
	}
	have, err := b.Have(ctx)
	if err != nil {
		t.Error(err)
		return false
	}
	changes := plan.Diff(have, want)
	for _, dry := range []bool{true, false} {
		if err := b.Commit(ctx, changes, dry); err != nil {
			t.Errorf("commit (dry run: %v): %v", dry, err)
			return false
		}
	}
	return same(t, "the commit", want, h)
}
