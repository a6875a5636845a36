package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// A few reloads show that the comparison still measures: ipmasq loses nothing and lets nothing out or in, one
// transaction of nft loses nothing either, and the gap between two is seen.
func TestReloads(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	for _, c := range []struct {
		peer    *peer
		reloads int
		gap     bool // between the old rules and the new
	}{{ipmasq(t, ""), 8, false}, {ipmasq(t, "nft"), 4, false}, {ipmasq(t, "legacy"), 4, false}, {nftOnce(), 8, false}, {nftTwice(), 2, true}} {
		t.Run(c.peer.name, func(t *testing.T) {
			t.Parallel()
			for _, program := range c.peer.needs {
				lab.Require(t, lab.Binary(program))
			}
			const calm = 200 * time.Millisecond
			m, err := measure(t, c.peer, 2*minRate, c.reloads, calm)
			if err == nil && !m.reliable() {
				m, err = measure(t, c.peer, minRate, c.reloads, calm)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !m.reliable() {
				t.Fatalf("the machine lost packets without a reload: %+v", m.calm)
			}
			f := m.reloads
			t.Logf("%d reloads, %v each: %+v", c.reloads, m.median(), f)
			if f.sent == 0 || f.forbidden == 0 || f.fresh == 0 || f.dialed == 0 {
				t.Error("there was no traffic to disturb")
			}
			if c.gap {
				if f.lost == 0 || f.leaked == 0 || f.passed == 0 || f.cut == 0 {
					t.Error("the gap between two transactions was not seen")
				}
				return
			}
			if f.lost+f.freshLost > 0 || f.leaked > 0 || f.failed > 0 || f.cut > 0 {
				t.Error("the reloads were felt")
			}
			// One transaction of nft may let some in: the drop policy of a new chain comes late.
			if f.passed > 0 && strings.HasPrefix(c.peer.name, "ipmasq") {
				t.Errorf("%d forbidden packets passed", f.passed)
			}
		})
	}
}
