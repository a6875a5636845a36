package sysctl

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGetSet(t *testing.T) {
	freshNetNS(t)
	run(t, "ip", "link", "add", "lan.100", "type", "veth", "peer", "name", "wan.100")
	for _, name := range []string{"net/ipv4/conf/lan.100/forwarding", "net.ipv4.conf.lan/100.forwarding"} {
		for _, value := range []string{"1", "0"} {
			if err := Set(name, value); err != nil {
				t.Fatal(err)
			}
			if got, err := Get(name); err != nil || got != value {
				t.Fatalf("Get(%s) = %q, %v; want %q", name, got, err, value)
			}
		}
	}
	if err := Set("net/ipv4/ip_local_port_range", "32000 33000"); err != nil {
		t.Fatal(err)
	}
	if got, err := Get("net/ipv4/ip_local_port_range"); err != nil || got != "32000 33000" {
		t.Fatalf("tabs were not made one space: %q, %v", got, err)
	}
	if err := Set("net/ipv4/ip_forward", "maybe"); !errors.Is(err, syscall.EINVAL) ||
		!strings.Contains(err.Error(), `write "maybe" to sysctl net/ipv4/ip_forward`) {
		t.Fatalf("a value the kernel refuses: %v", err)
	}
}

// A caller in another namespace must see that one's settings, not those of the
// process: /proc/sys/net is looked up by thread.
func TestFollowsTheThread(t *testing.T) {
	freshNetNS(t)
	if err := Set("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	other := make(chan string)
	go func() {
		value, _ := Get("net/ipv4/ip_forward")
		other <- value
	}()
	if got := <-other; got != "0" {
		t.Fatalf("another thread sees ip_forward=%q, want 0", got)
	}
}

func TestAbsent(t *testing.T) {
	freshNetNS(t)
	const name = "net/ipv4/conf/gone/forwarding"
	_, getting := Get(name)
	for _, err := range []error{getting, Set(name, "1"), Writable(name)} {
		if !errors.Is(err, ErrAbsent) {
			t.Errorf("got %v, want ErrAbsent", err)
		}
	}
}

func TestWritableWritesNothing(t *testing.T) {
	freshNetNS(t)
	if err := Writable("net/ipv4/ip_forward"); err != nil {
		t.Fatal(err)
	}
	if got, err := Get("net/ipv4/ip_forward"); err != nil || got != "0" {
		t.Fatalf("ip_forward is %q, %v", got, err)
	}
}

// Root without CAP_NET_ADMIN, as in many containers: opening succeeds and
// writing does not.
func TestWithoutCapability(t *testing.T) {
	freshNetNS(t)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	err := Set("net/ipv4/ip_forward", "1")
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("got %v, want a permission error", err)
	}
	if done, err := Apply([]Change{{Name: "net/ipv4/ip_forward", Before: "0", After: "1"}}); len(done) != 0 || !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("Apply: %v, %v", done, err)
	}
}

func TestReadOnlyProcSys(t *testing.T) {
	inNamespace(t)
	runtime.LockOSThread()
	// A mount namespace of this thread only: the other tests go on writing.
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{Set("net/ipv4/ip_forward", "1"), Writable("net/ipv4/ip_forward")} {
		if !errors.Is(err, ErrReadOnly) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want ErrReadOnly and a permission error", err)
		}
	}
	if _, err := Get("net/ipv4/ip_forward"); err != nil {
		t.Error(err)
	}
}
