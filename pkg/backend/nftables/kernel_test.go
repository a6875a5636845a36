//go:build linux

package nftables_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/backend/backendtest"
	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// host is the nftables of a host of its own.
type host struct {
	*nftables.Backend
	host *lab.Host
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := lab.New(t).Host("gateway")
	lab.Require(t, lab.NFTables())
	return &host{nftables.New(h.Do), h}
}

var (
	_ backendtest.Sender   = (*host)(nil)
	_ backendtest.Neighbor = (*host)(nil)
)

// Send has the host send itself a packet.
func (h *host) Send(t testing.TB) { h.host.SendItself(t) }

// Disturb adds a rule to somebody else's tables, of which one has our name.
func (h *host) Disturb(t testing.TB) {
	t.Helper()
	h.load(t, `
add table inet other
add table ip ipmasq
add set inet other s { type ipv4_addr; }
add element inet other s { 10.0.0.1 }
add counter inet other c
add chain inet other forward { type filter hook forward priority 0; }
add chain ip ipmasq forward { type filter hook forward priority 0; }
add rule inet other forward ip saddr @s ct original ip daddr 10.0.0.2 counter name c accept
add rule ip ipmasq forward accept
`)
}

// Disturbed counts those rules.
func (h *host) Disturbed(t testing.TB) int {
	t.Helper()
	a := strings.Count(h.nft(t, "list", "table", "inet", "other"), "ip saddr @s ct original ip daddr 10.0.0.2 counter name")
	b := strings.Count(h.nft(t, "list", "table", "ip", "ipmasq"), "\t\taccept\n")
	if a != b {
		t.Errorf("%d rules of inet other, %d of ip ipmasq", a, b)
	}
	return a
}

// nft runs nft(8) on the host.
func (h *host) nft(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.run("", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// load has nft(8) load a file.
func (h *host) load(t testing.TB, text string) {
	t.Helper()
	if _, err := h.run(text, "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

func (h *host) run(input string, args ...string) (string, error) {
	var out []byte
	err := h.host.Do(func() (err error) {
		cmd := exec.Command("nft", args...)
		cmd.Stdin = strings.NewReader(input)
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return err
	})
	return string(out), err
}

// TestContract runs the suite of all backends against the kernel.
func TestContract(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		h := newHost(t)
		lab.Require(t, lab.Binary("nft"))
		return h
	})
}
