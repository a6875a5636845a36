//go:build linux

package sysctl

import (
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// inNamespace skips a test that would otherwise touch the host.
func inNamespace(t *testing.T) {
	t.Helper()
	lab.New(t)
}

// run runs a command that the test cannot do without.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// freshNetNS gives the test a network namespace of its own, with the veth pair
// lan and wan in it. The test is locked to its thread, which ends with it.
func freshNetNS(t *testing.T) {
	t.Helper()
	inNamespace(t)
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	// Link-local addresses at once: duplicate detection takes a second.
	if err := Set("net/ipv6/conf/default/dad_transmits", "0"); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "wan")
	for _, link := range []string{"lo", "lan", "wan"} {
		run(t, "ip", "link", "set", link, "up")
	}
}
