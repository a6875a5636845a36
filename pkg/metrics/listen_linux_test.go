package metrics

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// bound are the addresses that a host would serve on.
func bound(t *testing.T, h *lab.Host, addr string) (list string, err error) {
	err = h.Do(func() error {
		s, err := Listen(t.Context(), addr, quiet())
		if err != nil {
			return err
		}
		defer closeAll(s.listeners)
		list = fmt.Sprint(s.Addrs())
		return nil
	})
	return list, err
}

// A port alone is on whatever loopback addresses the host has; every other
// address has to be there, and is the only one.
func TestListenWhere(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	both := l.Host("both")
	v4 := l.Host("v4")
	v4.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
	v6 := l.Host("v6")
	v6.Run(t, "ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
	for _, c := range []struct {
		host       *lab.Host
		addr, want string
	}{
		{both, ":9742", "[127.0.0.1:9742 [::1]:9742]"},
		{v4, ":9742", "[127.0.0.1:9742]"},
		{v6, ":9742", "[[::1]:9742]"},
		{both, "0.0.0.0:9742", "[0.0.0.0:9742]"},
		{both, "[::]:9742", "[[::]:9742]"},
		{both, "[::1]:9742", "[[::1]:9742]"},
	} {
		if got, err := bound(t, c.host, c.addr); err != nil || got != c.want {
			t.Errorf("%s: %s is %s, %v; want %s", c.host.Name(), c.addr, got, err, c.want)
		}
	}
	if got, err := bound(t, v4, "[::1]:9742"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that is not there: %s, %v", got, err)
	}
	nothing := l.Host("nothing")
	nothing.Run(t, "ip", "address", "flush", "dev", "lo")
	if got, err := bound(t, nothing, ":9742"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("a host without any address: %s, %v", got, err)
	}
}
