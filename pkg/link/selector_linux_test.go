package link

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What ip(8) lists of rules is told likewise, and which packet a rule may be for.
func TestSelectors(t *testing.T) {
	freshNetNS(t)
	run := func(args string) string {
		t.Helper()
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("link set lo up")
	for _, rule := range []string{
		"pref 10 from 192.168.1.0/24 iif lo lookup 100", "pref 20 to 10.0.0.0/8 unreachable", "pref 30 not fwmark 0x1/0xff lookup 100",
		"pref 40 from 192.168.1.7 prohibit", "pref 50 ipproto tcp dport 443 lookup 100", "pref 60 lookup main suppress_prefixlength 0",
	} {
		run("rule add " + rule)
	}
	run("route add blackhole 10.1.0.0/16")
	run("route add prohibit default table 100 metric 7")
	run("-6 route add unreachable fd00:9::/64")
	r, err := ReadRoutes()
	must(t, err)
	var got, refusals []string
	for _, s := range r.Selectors {
		if s.Family == IPv4 {
			got = append(got, s.String())
		}
	}
	want := strings.Split(strings.TrimSpace(run("rule show")), "\n")
	for i, line := range want {
		line = strings.Join(strings.Fields(line), " ")
		want[i] = strings.Replace(line, "ipproto tcp dport 443", "...", 1)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, x := range r.Refusals {
		refusals = append(refusals, x.String())
	}
	slices.Sort(refusals)
	if !slices.Equal(refusals, []string{"blackhole 10.1.0.0/16", "prohibit default table 100 metric 7", "unreachable fd00:9::/64 metric 1024"}) {
		t.Errorf("%q", refusals)
	}
	if x, ok := r.Refuses(netip.MustParseAddr("10.1.2.3"), func(int) bool { return true }); !ok || x.Kind != KindBlackhole {
		t.Errorf("10.1.2.3: %v, %v", x, ok)
	}
	may := func(p Passage) (out []int) {
		for _, s := range r.Selectors {
			if s.May(p) && s.Priority > 0 && s.Priority < 100 {
				out = append(out, s.Priority)
			}
		}
		return out
	}
	a := netip.MustParseAddr
	for _, c := range []struct {
		p    Passage
		want []int
	}{
		{Passage{In: "lo", Source: a("192.168.1.9"), Destination: a("8.8.8.8")}, []int{10, 30, 50, 60}},
		{Passage{In: "eth0", Source: a("192.168.1.7"), Destination: a("10.2.2.2")}, []int{20, 30, 40, 50, 60}},
		{Passage{In: "eth0", Source: a("172.16.0.1"), Destination: a("8.8.8.8"), Mark: 0x201}, []int{50, 60}},
	} {
		if got := may(c.p); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.p, got, c.want)
		}
	}
	for _, s := range r.Selectors {
		if s.Plain(MainTable) != (s.Family == IPv4 && s.Priority == 32766 || s.Family == IPv6 && s.Priority == 32766) {
			t.Errorf("%s is plain: %v", s, s.Plain(MainTable))
		}
	}
}
