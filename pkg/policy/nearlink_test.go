package policy_test

import (
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
)

func TestNearestLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		links []string
		want  string
	}{
		{"eht0", []string{"eth0", "eth1"}, "eth0"},
		{"Eth0", []string{"eth0"}, "eth0"},
		{"br-lna", []string{"docker0", "br-lan"}, "br-lan"},
		{"enp3s0", []string{"enp2s0", "lo"}, "enp2s0"},
		{"eth", []string{"eth0"}, "eth0"},
		{"wan", []string{"wan0"}, "wan0"},
		// What comes later.
		{"eth2", []string{"eth0", "eth1"}, ""},
		{"ppp0", []string{"eth0", "tap0"}, ""},
		{"wg0", []string{"eth0", "lo"}, ""},
		{"tun0", []string{"eth0"}, ""},
		{"eth0.100", []string{"eth0"}, ""},
		{"eth0", []string{"eth0.100"}, ""},
		{"wg1", []string{"wg0"}, ""},
	} {
		if got := policy.NearestLink(c.name, c.links); got != c.want {
			t.Errorf("%s of %v: %q, want %q", c.name, c.links, got, c.want)
		}
	}
}
