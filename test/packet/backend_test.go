package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/variant"
)

// chosen is the variant of iptables that all gateways use, or nothing for nftables.
func chosen(t *testing.T) string {
	t.Helper()
	root, _, _ := strings.Cut(t.Name(), "/")
	ran.Store(root, true)
	return variant.Named(t)
}

// nftablesOnly skips a test of what iptables cannot do and does not refuse.
func (g *gateway) nftablesOnly(t *testing.T, why string) {
	t.Helper()
	if g.variant != "" {
		g.skips(t, why)
	}
}

// refused is why the backend cannot have a policy, if that is what ipmasq has
// printed.
func (g *gateway) refused(stderr string) string {
	if g.variant == "" || !strings.Contains(stderr, "the iptables backend refuses") {
		return ""
	}
	return stderr
}

// saved is what iptables-save prints of both families.
func (g *gateway) saved(t *testing.T) string {
	t.Helper()
	return variant.Saved(t, g.GW, g.variant)
}
