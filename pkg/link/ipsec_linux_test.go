package link

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// What ip(8) makes is read back, in the order in which the kernel asks.
func TestIPsecPolicies(t *testing.T) {
	freshNetNS(t)
	if list, err := IPsecPolicies(); errors.Is(err, unix.EOPNOTSUPP) {
		lab.Lacking(t, "a 64-bit kernel that speaks with 32-bit programs of IPsec: %v", err)
	} else if err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, line := range []string{
		"dir fwd src 10.0.0.0/8 dst 0.0.0.0/0 action block priority 9",
		"dir out src fd00:1::/64 dst ::/0 proto tcp dport 443 action block priority 7",
		"dir in src ::/0 dst fd00:1::1/128 priority 5 tmpl proto esp mode transport",
		"dir in src 0.0.0.0/0 dst 192.0.2.1/32 priority 3 tmpl proto esp mode transport level use",
		"dir fwd src 0.0.0.0/0 dst 192.0.2.2/32 priority 1 mark 0x1 mask 0xff action block",
	} {
		if out, err := exec.Command("ip", append([]string{"xfrm", "policy", "add"}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			lab.Lacking(t, "ip xfrm: %v: %s", err, out)
		}
	}
	list, err := IPsecPolicies()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, p := range list {
		fmt.Fprintf(&got, "%s %v %s %v\n", p.Family, p.Requires, p, p.Conditional)
	}
	const want = `IPv4 false dir fwd src 0.0.0.0/0 dst 192.0.2.2/32 priority 1 action block true
IPv4 false dir in src 0.0.0.0/0 dst 192.0.2.1/32 priority 3 action allow false
IPv6 true dir in src ::/0 dst fd00:1::1/128 priority 5 with a template that is not optional false
IPv6 false dir out src fd00:1::/64 dst ::/0 proto 6 dport 443 priority 7 action block false
IPv4 false dir fwd src 10.0.0.0/8 dst 0.0.0.0/0 priority 9 action block false
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}
