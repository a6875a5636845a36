package lab_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// Building must stay cheap, or nobody writes a packet test of one thing.
func TestBuildTime(t *testing.T) {
	start := time.Now()
	lab.Gateway(t)
	standard := time.Since(start)
	start = time.Now()
	lab.Gateway(t, lab.SecondUplink(), lab.PathMTU(1400))
	t.Logf("standard topology %v, all of it %v", standard, time.Since(start))
}

// A lab that leaks into the namespace of the test, or of another test, proves nothing.
func TestHostsAreApart(t *testing.T) {
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			a, b := l.Host("a"), l.Host("b")
			l.Link(a, "eth0", b, "eth0")
			a.Addr("eth0", "10.0.0.1/24")
			b.Addr("eth0", "10.0.0.2/24")
			s := b.ServeTCP(":80", lab.As(fmt.Sprint("lab", i)))
			for range 20 {
				c, err := a.DialTCP(lab.Patience, "10.0.0.2:80")
				if err != nil {
					t.Fatal(err)
				}
				if got, want := c.Seen().Name, fmt.Sprint("lab", i); got != want {
					t.Fatalf("answered by %s, want %s", got, want)
				}
				c.Close()
				links := namesOf(t, nil)
				if links != "lo" {
					t.Fatalf("the test's own namespace has %s", links)
				}
			}
			if n := len(s.Peers()); n != 20 {
				t.Errorf("%d peers, want 20", n)
			}
			if got := namesOf(t, a); got != "eth0 lo" && got != "lo eth0" {
				t.Errorf("host a has %s", got)
			}
		})
	}
}

func namesOf(t *testing.T, h *lab.Host) string {
	t.Helper()
	var names []string
	list := func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			names = append(names, l.Name)
		}
		return err
	}
	err := list
	if h != nil {
		err = func() error { return h.Do(list) }
	}
	if err := err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestDoNests(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	a.Stub("in-a")
	b.Stub("in-b")
	err := a.Do(func() error {
		err := b.Do(func() error {
			_, err := net.InterfaceByName("in-b")
			return err
		})
		if err != nil {
			return err
		}
		_, err = net.InterfaceByName("in-a")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := namesOf(t, nil); got != "lo" {
		t.Errorf("left in a namespace with %s", got)
	}
}

func TestCleanupRemovesEverything(t *testing.T) {
	var path, dir string
	t.Run("inner", func(t *testing.T) {
		l := lab.New(t)
		h := l.Host("a")
		path, dir = h.NetNS(), l.Dir()
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		c := h.Command(t.Context(), "/proc/self/exe", "-test.run=^TestSleeper$")
		c.Env = append(os.Environ(), "LAB_TEST_SLEEP=1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Wait(); err == nil {
				t.Error("the process ended by itself")
			}
		})
	})
	for _, p := range []string{path, dir} {
		if _, err := os.Stat(p); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", p, err)
		}
	}
}

// TestSleeper is a process for other tests to start.
func TestSleeper(t *testing.T) {
	if os.Getenv("LAB_TEST_SLEEP") == "" {
		t.Skip("only as a process of another test")
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
}

func TestLinks(t *testing.T) {
	l := lab.New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	l.Link(a, "ppp0", b, "eth0")
	l.Link(b, "p2", c, "eth0")
	a.Addr("ppp0", "10.0.0.1/24", "fd00::1/64")
	b.Up("p2")
	b.Bridge("br-lan", "eth0", "p2")
	c.Addr("eth0", "10.0.0.3/24")
	reach := func(want bool) {
		t.Helper()
		within := lab.Patience
		if !want {
			within = lab.Silence
		}
		r, err := a.Ping("10.0.0.3", within, lab.PingOptions{})
		if got := err == nil && r.Echo(); got != want {
			t.Fatalf("ping over bridge: %v %v, want an echo: %v", r, err, want)
		}
	}
	reach(true)
	if got := a.Addrs("ppp0"); len(got) != 2 {
		t.Errorf("addresses of ppp0: %v", got)
	}
	a.DelAddr("ppp0", "fd00::1/64")
	if got := a.Addrs("ppp0"); len(got) != 1 || got[0].String() != "10.0.0.1/24" {
		t.Errorf("addresses of ppp0: %v", got)
	}
	c.SetMTU("eth0", 1400)
	if got := c.MTU("eth0"); got != 1400 {
		t.Errorf("mtu %d", got)
	}
	b.Down("p2")
	reach(false)
	b.Up("p2")
	reach(true)
	if mac := c.MAC("eth0"); len(mac) != 6 {
		t.Errorf("mac %v", mac)
	}
	a.Down("ppp0")
	a.Rename("ppp0", "wan")
	if a.HasLink("ppp0") || !a.HasLink("wan") {
		t.Error("not renamed")
	}
	a.DeleteLink("wan")
	if b.HasLink("eth0") {
		t.Error("the other end is left")
	}
}

func TestRoutesAndRules(t *testing.T) {
	topo := lab.Gateway(t, lab.SecondUplink())
	topo.GW.Route("default", lab.ISP2+" table 100")
	topo.GW.Route("::/0", lab.ISP2v6+" dev eth3 table 100 metric 5")
	topo.GW.Rule("from " + lab.GatewayUplink2 + " table 100 priority 50")
	topo.GW.Rule("from " + lab.GatewayUplink2v6 + " table 100")
	topo.Server.ServeTCP(":80")
	through := topo.ISP2.Capture("eth0", lab.All(lab.IsTCP, lab.Incoming))
	for from, to := range map[string]string{
		lab.GatewayUplink: lab.Outside, lab.GatewayUplink2: lab.Outside, lab.GatewayUplink2v6: "[" + lab.Outsidev6 + "]",
	} {
		through.Reset()
		c, err := topo.GW.DialTCP(lab.Patience, to+":80", lab.From(from))
		if err != nil {
			t.Fatal(err)
		}
		through.Sync()
		if got, want := through.Count() > 0, from != lab.GatewayUplink; got != want {
			t.Errorf("from %s through isp2: %v, want %v", from, got, want)
		}
		if got := c.Seen().Peer; got != c.Local() {
			t.Errorf("seen as %v, is %v", got, c.Local())
		}
	}
	topo.GW.Route("198.51.100.0/24", "unreachable metric 1")
	if _, err := topo.GW.DialTCP(lab.Patience, lab.Outside+":80"); !lab.IsUnreachable(err) {
		t.Errorf("unreachable route: %v", err)
	}
	topo.GW.DelRoute("198.51.100.0/24", "unreachable metric 1")
	if _, err := topo.GW.DialTCP(lab.Patience, lab.Outside+":80"); err != nil {
		t.Error(err)
	}
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	a.Sysctl("net.ipv4.ip_forward", "1")
	if got := a.GetSysctl("net.ipv4.ip_forward") + b.GetSysctl("net.ipv4.ip_forward"); got != "10" {
		t.Errorf("ip_forward %s, want 10", got)
	}
	a.Stub("eth0.5")
	a.Sysctl("net/ipv4/conf/eth0.5/rp_filter", "1")
	if a.HasSysctl("net.ipv4.nonsense") {
		t.Error("a sysctl that is none")
	}
}

func TestCommandRunsInside(t *testing.T) {
	lab.Require(t, lab.Binary("cat"))
	l := lab.New(t)
	h := l.Host("a")
	h.Stub("dummy7")
	if got := h.Run(t, "cat", "/proc/self/net/dev"); !strings.Contains(got, "dummy7") {
		t.Errorf("interfaces:\n%s", got)
	}
	if got := h.Feed(t, "hello", "cat"); got != "hello" {
		t.Errorf("fed %q", got)
	}
	if _, err := h.Try("cat", "/nonexistent"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("error of a command: %v", err)
	}
}
