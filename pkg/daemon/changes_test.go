package daemon

import (
	"testing"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
)

// The log tells in a line what was changed, the place where the rules are too.
func TestChangesOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left []string
		cut  int
		want string
	}{
		{nil, 0, "nothing changed"},
		{nil, 1, "1 flow cut"},
		{[]string{"iptables-nft"}, 2, "nftables in the place of iptables-nft, 2 flows cut"},
	} {
		pl := &engine.Plan{Backend: "nftables", Rules: &plan.Changes{From: &plan.Snapshot{}, To: &plan.Snapshot{}}}
		for _, l := range c.left {
			pl.Left = append(pl.Left, engine.Left{Backend: l})
		}
		pl.Cut.Total = c.cut
		if got := changesOf(pl); got != c.want {
			t.Errorf("%v, %d cut: got %q, want %q", c.left, c.cut, got, c.want)
		}
	}
}
