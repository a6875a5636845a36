package oracle

import (
	"flag"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/random"
)

var (
	seed    = flag.Uint64("seed", 1, "what policies and packets are made from")
	packets = flag.Int("packets", 6000, "how many packets are compared")
	budget  = flag.Duration("budget", 12*time.Second, "when to stop, however many that were")
	most    = flag.Int("most", 3, "how many differences are shrunk and shown")
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestOracle is the oracle: whatever policy, whatever packet, the kernel does
// what explain says.
func TestOracle(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	const side = 2
	var mu sync.Mutex
	all := &tally{entries: map[string]int{}}
	start := time.Now()
	t.Run("policies", func(t *testing.T) {
		for i := range side {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				x := &tally{entries: map[string]int{}}
				g := NewGateway(t)
				maker := random.Generator{Offload: g.host.HasFlowtables(), Timeless: true}
				for n := uint64(i); x.sent < *packets/side && time.Since(start) < *budget && x.differences+x.refused < *most; n += side {
					maker.Rand = rand.New(rand.NewPCG(*seed, n))
					p, err := maker.Policy(g.bare())
					if err != nil {
						t.Fatal(err)
					}
					x.play(t, g, p, rand.New(rand.NewPCG(n, *seed)))
				}
				mu.Lock()
				defer mu.Unlock()
				all.add(x)
			})
		}
	})
	t.Logf("seed %d: %d packets through %d policies in %.1fs; %d opened flows, %d could be the answers of others; %s",
		*seed, all.sent, all.policies, time.Since(start).Seconds(), all.passed, all.skipped, all.sections())
}

// TestOracleIPTables is the oracle with the other backend, both variants. What that
// refuses is counted.
func TestOracleIPTables(t *testing.T) {
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.NFTables(), lab.Binary("nft"), lab.Binary(variant))
			g := NewGateway(t)
			g.variant = variant
			x, start := &tally{entries: map[string]int{}}, time.Now()
			maker := random.Generator{Timeless: true}
			for n := uint64(0); x.sent < *packets/2 && time.Since(start) < *budget && x.differences < *most; n++ {
				maker.Rand = rand.New(rand.NewPCG(*seed, n))
				p, err := maker.Policy(g.bare())
				if err != nil {
					t.Fatal(err)
				}
				x.play(t, g, p, rand.New(rand.NewPCG(n, *seed)))
			}
			if x.policies == 0 {
				t.Error("all policies were refused")
			}
			t.Logf("seed %d: %d packets through %d policies in %.1fs, %d were refused; %d opened flows, %d could be the answers of others; %s",
				*seed, x.sent, x.policies, time.Since(start).Seconds(), x.refused, x.passed, x.skipped, x.sections())
		})
	}
}
