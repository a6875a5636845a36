package iptables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/iptables"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// One line of each kind is tested, whatever it names.
func TestSamples(t *testing.T) {
	t.Parallel()
	lines := []string{
		":IPMASQ-x - [0:0]",
		`-A IPMASQ-x -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -m comment --comment one -j DNAT --to-destination 10.0.0.1:80`,
		`-A IPMASQ-x -d 10.0.0.2/32 -p tcp -m tcp --dport 81:82 -m comment --comment "two words" -j DNAT --to-destination 10.0.0.1:80`,
		`-A IPMASQ-x -d fd00::1/128 -p tcp -m tcp --dport 81 -m comment --comment "x" -j DNAT --to-destination [fd00::1]:80`,
		`-A IPMASQ-x -d fd00::2/128 -p tcp -m tcp --dport 81 -m comment --comment "x" -j DNAT --to-destination fd00::1`,
		`-A IPMASQ-x -d 10.0.0.2/32 -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.0.0.1:80-90/70`,
		`-A IPMASQ-x -d 10.0.0.2/32 -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.0.0.1:80-90`,
		`-A IPMASQ-x -d 10.0.0.2/32 -p udp -m udp --dport 81 -m comment --comment "a \"quoted\" one" -j RETURN`,
		`-A IPMASQ-x -d 10.0.0.2/32 -p udp -m udp --dport 81 -m comment --comment "a \"quoted\" two" -j RETURN`,
		`-A IPMASQ-x -m hashlimit --hashlimit-upto 1/sec -j RETURN`,
		`-A IPMASQ-x -m hashlimit --hashlimit-upto 2/sec -j RETURN`,
		`-A IPMASQ-x -i eth0 -m set ! --match-set ipmasq-new src -m set --match-set ipmasq-old dst -j RETURN`,
	}
	got := iptables.Tested(lines, "ipmasq-new")
	want := slices.Delete(slices.Clone(lines), 2, 3) // all but the second of a kind
	want[len(want)-1] = `-A IPMASQ-x -i eth0 -m set --match-set ipmasq-old dst -j RETURN`
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestSetNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range [][2]string{
		{"lan_v4", ""}, {"entries", ""}, {"lan_v4", "x"}, {"lan_v4", "y"}, {"a b", ""}, {"a_b", ""}, {"a~b", ""},
		{strings.Repeat("x", 24), ""}, {strings.Repeat("x", 25), ""}, {strings.Repeat("x", 26), ""}, {strings.Repeat("x", 200), "y"},
	} {
		name := iptables.SetName(c[0], c[1])
		if len(name) > 31 || !strings.HasPrefix(name, "ipmasq-") || strings.ContainsAny(name, " ~") || seen[name] || name == "ipmasq-entries" {
			t.Errorf("%q is called %s", c, name)
		}
		seen[name] = true
	}
	if name := iptables.SetName("lan_v4", ""); name != "ipmasq-lan_v4" {
		t.Error(name)
	}
}

// An old kernel has a rule for each address and each port.
func TestOldKernel(t *testing.T) {
	t.Parallel()
	rs := sized(t, 10)
	old := iptables.TakenByOld(rs)
	if len(old.Sets) > 0 {
		t.Errorf("it has %d sets", len(old.Sets))
	}
	text := iptables.Rendered(old, ruleset.IPv4)
	for _, part := range []string{"--match-set", "-9010/8000"} {
		if strings.Contains(text, part) {
			t.Errorf("it has %s", part)
		}
	}
	for part, least := range map[string]int{"-d 11.0.0.18/32 ": 1, "-s 11.0.0.4/32 ": 3, "--to-destination 192.168.1.2:9007\n": 1} {
		if n := strings.Count(text, part); n < least {
			t.Errorf("%q is there %d times", part, n)
		}
	}
}
