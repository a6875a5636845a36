package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func netNSHere(t *testing.T) string {
	t.Helper()
	here, err := os.Readlink(threadNetNS)
	must(t, err)
	return here
}

// named makes /run a place of the test's own, and network namespaces in it.
func named(t *testing.T, names ...string) {
	t.Helper()
	freshNetNS(t)
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("ipmasq-test", "/run", "tmpfs", 0, ""))
	if len(names) > 0 {
		must(t, os.MkdirAll(namedNetNS, 0o755))
	}
	for _, name := range names {
		path := filepath.Join(namedNetNS, name)
		must(t, os.WriteFile(path, nil, 0o444))
		before, err := os.Open(threadNetNS)
		must(t, err)
		must(t, unix.Unshare(unix.CLONE_NEWNET))
		must(t, unix.Mount(threadNetNS, path, "", unix.MS_BIND, ""))
		must(t, unix.Setns(int(before.Fd()), unix.CLONE_NEWNET))
		before.Close()
	}
}

func TestDo(t *testing.T) {
	named(t, "blue")
	home := netNSHere(t)
	blue, err := OpenNetNS("blue")
	must(t, err)
	defer blue.Close()
	byPath, err := OpenNetNS("/run/netns/blue")
	must(t, err)
	defer byPath.Close()
	own, err := OpenNetNS("")
	must(t, err)
	defer own.Close()

	if blue.ID() != byPath.ID() || blue.ID() == own.ID() {
		t.Errorf("IDs: blue %s, by path %s, own %s", blue.ID(), byPath.ID(), own.ID())
	}
	if !regexp.MustCompile(`^\d+:\d+:\d+@[0-9a-f-]{36}$`).MatchString(blue.ID()) {
		t.Errorf("ID %q", blue.ID())
	}

	failure := errors.New("failure")
	var inside, nested, back string
	err = blue.Do(func() error {
		inside = netNSHere(t)
		must(t, own.Do(func() error { nested = netNSHere(t); return nil }))
		back = netNSHere(t)
		return failure
	})
	if err != failure {
		t.Errorf("the function's error came back as %v", err)
	}
	if inside == home || nested != home || back != inside || netNSHere(t) != home {
		t.Errorf("home %s, inside %s, nested %s, back %s, now %s", home, inside, nested, back, netNSHere(t))
	}
}

func TestDoComesBackAfterAPanic(t *testing.T) {
	named(t, "blue")
	home := netNSHere(t)
	blue, err := OpenNetNS("blue")
	must(t, err)
	defer blue.Close()
	func() {
		defer func() {
			if recover() != "oops" {
				t.Error("the panic did not pass")
			}
		}()
		blue.Do(func() error { panic("oops") })
	}()
	if netNSHere(t) != home {
		t.Error("left in the other namespace")
	}
}

// The caller's own namespace is "entered" without any right to enter one.
func TestDoWithoutCapabilities(t *testing.T) {
	named(t, "blue")
	own, err := OpenNetNS("")
	must(t, err)
	blue, err := OpenNetNS("blue")
	must(t, err)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&header, &none[0]))
	ran := false
	if err := own.Do(func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("own namespace: %v", err)
	}
	if err := blue.Do(func() error { t.Error("ran"); return nil }); !errors.Is(err, fs.ErrPermission) ||
		!strings.Contains(err.Error(), "enter network namespace /run/netns/blue") {
		t.Errorf("another namespace: %v", err)
	}
}

// When the way back is shut the thread must not be used by anybody else.
func TestDoThatCannotComeBack(t *testing.T) {
	named(t, "blue")
	blue, err := OpenNetNS("blue")
	must(t, err)
	defer blue.Close()
	type outcome struct {
		err    error
		thread int
	}
	ended := make(chan outcome)
	go func() {
		err := blue.Do(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			return unix.Capset(&header, &none[0])
		})
		ended <- outcome{err, unix.Gettid()}
	}()
	got := <-ended
	if !errors.Is(got.err, fs.ErrPermission) || !strings.Contains(got.err.Error(), "go back") {
		t.Errorf("got %v", got.err)
	}
	for range 1000 { // the goroutine is gone; so must its thread be, soon
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", got.thread)); errors.Is(err, fs.ErrNotExist) {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	t.Error("the thread in the wrong namespace lives on")
}

func TestOpenNetNSThatIsNotThere(t *testing.T) {
	named(t, "blue", "green")
	must(t, os.WriteFile("/run/netns/stale", nil, 0o444))
	must(t, unix.Mkfifo("/run/fifo", 0o644))
	for _, c := range []struct{ name, want string }{
		{"red", `network namespace "red": no such network namespace; there are: blue, green, stale`},
		{"/run/nowhere", "network namespace /run/nowhere: no such network namespace"},
		{"stale", "/run/netns/stale is not a network namespace: no such network namespace"},
		{"/run/fifo", "/run/fifo is not a network namespace: no such network namespace"},
		{"/proc/self/ns/mnt", "/proc/self/ns/mnt is not a network namespace: no such network namespace"},
		{"/run", "/run is not a network namespace: no such network namespace"},
	} {
		_, err := OpenNetNS(c.name)
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrNoNetNS) {
			t.Errorf("%s: got  %v\nwant %s", c.name, err, c.want)
		}
	}
	if _, err := OpenNetNS(".."); err == nil {
		t.Error("opened ..")
	}
}

func TestOpenNetNSWithoutAnyNames(t *testing.T) {
	named(t)
	_, err := OpenNetNS("red")
	if err == nil || !strings.HasSuffix(err.Error(), "; /run/netns holds none") {
		t.Errorf("got %v", err)
	}
}
