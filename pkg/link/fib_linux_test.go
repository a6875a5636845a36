package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// batch gives lines to ip-batch, those that begin with -6 to its IPv6; a route
// that is there already is left out.
func batch(t testing.TB, lines []string) {
	t.Helper()
	for _, family := range [][]string{nil, {"-6"}} {
		var words strings.Builder
		for _, line := range lines {
			if rest, is6 := strings.CutPrefix(line, "-6 "); is6 == (family != nil) {
				words.WriteString(rest + "\n")
			}
		}
		cmd := exec.Command("ip", append(family, "-force", "-batch", "-")...)
		cmd.Stdin = strings.NewReader(words.String())
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("ip -batch: %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "File exists") && !strings.Contains(line, "Command failed") {
				t.Errorf("ip %v -batch: %s", family, line)
			}
		}
	}
}

const fibLinks = 5

// linked is a namespace with interfaces l0 and so on, each with a network of
// both families that nothing else overlaps.
func linked(t testing.TB) {
	t.Helper()
	freshNetNS(t)
	lines := []string{"link set lo up"}
	for i := range fibLinks {
		lines = append(lines, fmt.Sprintf("link add l%d type veth peer name p%d", i, i),
			fmt.Sprintf("link set l%d up", i), fmt.Sprintf("link set p%d up", i),
			fmt.Sprintf("addr add 192.0.2.%d/28 dev l%d", i*16+1, i),
			fmt.Sprintf("-6 addr add 2001:db8:ffff:%d::1/64 dev l%d nodad", i, i))
	}
	batch(t, lines)
	awaitLocal(t)
}

func readFIB(t testing.TB) *Routes {
	t.Helper()
	r, err := ReadRoutes()
	must(t, err)
	return r
}

// awaitLocal waits for what comes from work queues, later than ip(8) returns: the
// local routes of IPv6 addresses that were given without a detection of duplicates
// (addrconf_dad_work), and the multicast route of a link that has found its other
// end (linkwatch_event, addrconf_notify).
func awaitLocal(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(lab.Patience); ; time.Sleep(time.Millisecond) {
		r := readFIB(t)
		ready := r.Leaves(netip.MustParseAddr("ff02::1"))
		missing := slices.IndexFunc(r.Facts.Links, func(l Link) bool {
			if l.Up && l.Name != "lo" && !slices.Contains(ready, l.Name) {
				return true
			}
			return l.Up && slices.ContainsFunc(l.Addresses, func(a Address) bool {
				return a.Prefix.Addr().Is6() && a.Prefix.Addr().IsGlobalUnicast() && !r.Local(a.Prefix.Addr())
			})
		})
		if missing < 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the routes of %s do not come: %v", r.Facts.Links[missing].Name, os.ErrDeadlineExceeded)
		}
	}
}

// kernelSays is what the kernel does with a packet that it sends: the
// interface, or "" for one that stays or is refused.
func kernelSays(t testing.TB, to netip.Addr, names map[int]string) (string, bool) {
	t.Helper()
	found, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(found) == 0 {
		if err != nil && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) &&
			!errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINVAL) {
			t.Fatalf("route to %s: %v", to, err)
		}
		return "", false
	}
	switch found[0].Type {
	case unix.RTN_LOCAL, unix.RTN_ANYCAST:
		return "", true
	case unix.RTN_UNICAST, unix.RTN_BROADCAST, unix.RTN_MULTICAST:
		return names[found[0].LinkIndex], false
	}
	return "", false
}

// route makes up a route. Two of one prefix never have the same metric, in
// which the order would be the kernel's secret.
func (r fibChance) route(family Family, objects bool, i int) string {
	via := func(l int) string {
		if family == IPv6 {
			return fmt.Sprintf("via 2001:db8:ffff:%d::2 dev l%d", l, l)
		}
		return fmt.Sprintf("via 192.0.2.%d dev l%d", l*16+2, l)
	}
	kind, way, version := "", via(r.IntN(fibLinks)), ""
	if family == IPv6 {
		version = "-6 "
	}
	switch r.IntN(10) {
	case 0:
		kind, way = r.pick("unreachable", "blackhole", "prohibit", "throw"), ""
	case 1:
		way = strings.NewReplacer("via", "nexthop via").Replace(via(0)) + " nexthop " + via(1)
	case 2:
		if objects {
			way = "nhid " + r.pick("1", "2", "3")
		}
	case 4:
		if p := r.prefix(family); p.Bits() > p.Addr().BitLen()/2 {
			return fmt.Sprintf("%sroute add local %s dev lo table local metric %d", version, p, i+1)
		}
	case 3:
		way = fmt.Sprintf("dev l%d", r.IntN(fibLinks))
	}
	if family == IPv6 {
		way = strings.ReplaceAll(way, "nhid ", "nhid 1")
	}
	return fmt.Sprintf("%sroute add %s %s table %s metric %d %s", version, kind, r.prefix(family), r.pick("main", "main", "100", "101", "102"), i+1, way)
}

// Whatever routes there are: where the kernel sends a packet is the first that
// the reading has to say, or among the first where there are several next hops;
// and what it keeps or refuses does not leave.
func TestRoutesAgainstKernel(t *testing.T) {
	ends := map[string]int{} // what the kernel said
	for seed := range uint64(12) {
		for _, rules := range [][]string{
			nil,
			{"rule add pref 100 to 10.1.0.0/16 lookup 100", "-6 rule add pref 100 to 2001:db8:1::/48 lookup 100"},
			{"rule add pref 90 lookup 101 suppress_prefixlength 15", "rule add pref 100 not to 10.2.0.0/16 lookup 100",
				"rule add pref 101 to 10.0.85.0/24 goto 103", "rule add pref 102 lookup 102", "rule add pref 103 to 10.0.170.0/24 prohibit",
				"-6 rule add pref 90 lookup 101 suppress_prefixlength 47", "-6 rule add pref 100 not to 2001:db8:2::/48 lookup 100",
				"-6 rule add pref 101 to 2001:db8:0:55::/64 goto 103", "-6 rule add pref 102 lookup 102",
				"-6 rule add pref 103 to 2001:db8:0:aa::/64 unreachable"},
		} {
			t.Run(fmt.Sprintf("%d,%d", seed, len(rules)), func(t *testing.T) {
				linked(t)
				r := fibChance{rand.New(rand.NewPCG(seed, uint64(len(rules))))}
				lines := []string{
					"nexthop add id 1 via 192.0.2.34 dev l2", "nexthop add id 2 via 192.0.2.50 dev l3",
					"-6 nexthop add id 11 via 2001:db8:ffff:2::2 dev l2", "-6 nexthop add id 12 via 2001:db8:ffff:3::2 dev l3",
				}
				batch(t, lines)
				lines = []string{"nexthop add id 3 group 1/2", "nexthop add id 13 group 11/12"}
				// The kernel takes the prefix length for suppression from whatever IPv6
				// route used a shared nexthop object last; so there are none there.
				objects6 := len(rules) < 10
				for i := range 150 {
					lines = append(lines, r.route(IPv4, true, i), r.route(IPv6, objects6, i))
				}
				batch(t, append(lines, rules...))
				compareFIB(t, r, ends)
			})
		}
	}
	for _, end := range []string{"", "l0", "l1", "l2", "l3", "l4"} {
		if ends[end] < 100 {
			t.Errorf("too little to compare: %v", ends)
		}
	}
}

func compareFIB(t *testing.T, r fibChance, ends map[string]int) {
	t.Helper()
	routes := readFIB(t)
	names := map[int]string{}
	for _, l := range routes.Facts.Links {
		names[l.Index] = l.Name
	}
	for _, family := range []Family{IPv4, IPv6} {
		for range 400 {
			to := r.address(family)
			want, local := kernelSays(t, to, names)
			got := routes.Leaves(to)
			ends[want]++
			switch {
			case want == "" && len(got) > 0, want != "" && !slices.Contains(got, want):
				t.Errorf("%s leaves by %v, with the kernel %q\n%s", to, got, want, around(t, to))
			case local != routes.Local(to):
				t.Errorf("%s local: %v", to, !local)
			}
		}
	}
}

func around(t testing.TB, to netip.Addr) string {
	t.Helper()
	version := "-4"
	if to.Is6() {
		version = "-6"
	}
	return ip(t, version+" route show table all match "+to.String())
}
