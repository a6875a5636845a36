package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(envRemove); root != "" {
		if err := removeGroup(root, os.Getenv(envGroup)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if root := os.Getenv(envInside); root != "" {
		fmt.Fprintln(os.Stderr, inside(root))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "ipmasq-systemd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBuilt, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// envBuilt names the folder of the program that is built for the tests.
const envBuilt = "IPMASQ_SYSTEMD_BUILT"

// envRemove tells the test binary to remove the control group of a machine.
const envRemove = "IPMASQ_SYSTEMD_REMOVE"

// patience bounds a wait.
const patience = 30 * time.Second

// machine is one that systemd boots, or has booted.
type machine struct {
	t    *testing.T
	root string // its files, seen from here
	init *exec.Cmd
	said bytes.Buffer
	off  func()
}

// newMachine has a machine's files made: the units, the program, and a network of eth0 and eth1 that
// systemd-networkd configures. Put in what is special about it, and boot it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	require(t)
	m := &machine{t: t, root: t.TempDir()}
	for _, dir := range []string{"old", "local-bin", "var/lib", "var/log/journal", "etc/systemd/system/multi-user.target.wants", "etc/ipmasq"} {
		m.check(os.MkdirAll(filepath.Join(m.root, dir), 0o755))
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		m.check(os.Symlink("usr/"+dir, filepath.Join(m.root, dir)))
	}
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		text, err := os.ReadFile(file)
		m.check(err)
		m.write(file, string(text))
	}
	m.write("/etc/machine-id", strings.Repeat("0123456789abcdef", 2)+"\n")
	m.check(os.Link(ipmasq(t), filepath.Join(m.root, "local-bin/ipmasq")))
	units, err := filepath.Glob("../../examples/systemd/*.service")
	m.check(err)
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		m.check(err)
		m.write("/etc/systemd/system/"+filepath.Base(unit), string(text))
	}
	m.link("/etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
	m.enable("systemd-networkd.service", "/usr/lib/systemd/system/")
	for i, address := range []string{"203.0.113.2/24", "192.168.1.1/24"} {
		m.write(fmt.Sprintf("/etc/systemd/network/eth%d.network", i),
			fmt.Sprintf("[Match]\nName=eth%d\n[Network]\nAddress=%s\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n", i, address))
	}
	// A machine that is let through no network of its own need not wait for people and clocks.
	for _, unit := range []string{"systemd-logind.service", "getty.target", "dbus.socket", "dbus.service", "systemd-resolved.service",
		"systemd-timesyncd.service", "systemd-tmpfiles-clean.timer"} {
		m.link("/etc/systemd/system/"+unit, "/dev/null")
	}
	return m
}

func (m *machine) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// write writes a file of the machine.
func (m *machine) write(name, text string) {
	m.t.Helper()
	file := filepath.Join(m.root, name)
	m.check(os.MkdirAll(filepath.Dir(file), 0o755))
	m.check(os.WriteFile(file, []byte(text), 0o644))
}

func (m *machine) link(name, target string) {
	m.t.Helper()
	m.check(os.Symlink(target, filepath.Join(m.root, name)))
}

// enable is systemctl enable.
func (m *machine) enable(unit, from string) {
	m.t.Helper()
	m.link("/etc/systemd/system/multi-user.target.wants/"+unit, from+unit)
}

// boot starts the machine and waits until it is up. It ends with the test. A machine that has booted before is switched
// off first: what is on its disk stays.
func (m *machine) boot() {
	t := m.t
	t.Helper()
	if m.off != nil {
		m.off()
		m.forgetBoot()
	}
	c := exec.Command("/proc/self/exe")
	group := "ipmasq-test" + strings.ReplaceAll(m.root, "/", "-")
	c.Env = []string{envInside + "=" + m.root, envGroup + "=" + group}
	c.Stdout, c.Stderr = &m.said, &m.said
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL, Setsid: true,
	}
	m.init = c
	started, end := make(chan error), make(chan struct{})
	go func() { // Pdeathsig: the thread that starts it lives as long as the test
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- c.Start()
		<-end
	}()
	if err := <-started; err != nil {
		close(end)
		t.Fatalf("make the machine: %v", err)
	}
	m.off = sync.OnceFunc(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		close(end)
		remove := exec.Command("/proc/self/exe")
		remove.Env = []string{envRemove + "=" + m.root, envGroup + "=" + group}
		remove.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if out, err := remove.CombinedOutput(); err != nil {
			t.Errorf("remove the control group: %v\n%s", err, out)
		}
	})
	t.Cleanup(m.off)
	// A link that is there before the network is configured, as hardware is.
	for i := range 2 {
		m.run("ip", "link", "add", fmt.Sprintf("eth%d", i), "type", "veth", "peer", "name", fmt.Sprintf("far%d", i))
	}
	m.until("systemd is there", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", c.Process.Pid))
		return err == nil
	})
	// It says degraded where a unit has failed, which some tests are about.
	state, _ := m.try("systemctl", "is-system-running", "--wait")
	if state = strings.TrimSpace(state); state != "running" && state != "degraded" {
		t.Fatalf("the machine is %q\n%s\n%s", state, &m.said, m.journal())
	}
}

// forgetBoot has what ipmasq remembers be of an earlier boot. The kernel goes on, and so does the ID of its boot.
func (m *machine) forgetBoot() {
	m.t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	m.check(err)
	files, err := filepath.Glob(filepath.Join(m.root, "var/lib/ipmasq/*.json"))
	m.check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		m.check(err)
		m.check(os.WriteFile(file, bytes.ReplaceAll(text, bytes.TrimSpace(id), []byte("00000000-0000-4000-8000-000000000000")), 0o600))
	}
}

// try runs a program in the machine, as its root.
func (m *machine) try(args ...string) (string, error) {
	args = append([]string{"-t", strconv.Itoa(m.init.Process.Pid), "-m", "-n", "-p", "-i", "-u", "-C", "-r", "-w", "--"}, args...)
	c := exec.Command("nsenter", args...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "SYSTEMD_PAGER=", "LANG=C"}
	out, err := c.CombinedOutput()
	return string(out), err
}

// run is try for what has to work.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, m.journal())
	}
	return out
}

// fails is run for what has to fail.
func (m *machine) fails(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v, want a failure\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (m *machine) journal() string {
	out, _ := m.try("journalctl", "--no-pager", "-o", "short-monotonic")
	return out
}

// property asks for one of a unit's.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", name, unit))
}

// moment is a property that is a time since boot, in microseconds.
func (m *machine) moment(unit, name string) int {
	m.t.Helper()
	text := m.property(unit, name+"Monotonic")
	n, err := strconv.Atoi(text)
	if err != nil || n == 0 {
		m.t.Fatalf("%s of %s is %q\n%s", name, unit, text, m.journal())
	}
	return n
}

// forwarding is the machine's IPv4 forwarding: 0 or 1.
func (m *machine) forwarding() string {
	m.t.Helper()
	return strings.TrimSpace(m.run("cat", "/proc/sys/net/ipv4/ip_forward"))
}

// hasRules says whether the masquerade of the tests is in the kernel.
func (m *machine) hasRules() bool {
	m.t.Helper()
	return strings.Contains(m.run("nft", "list", "ruleset"), `comment "masquerade lan-wan"`)
}

func (m *machine) until(what string, done func() bool) {
	m.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("waited %v in vain: %s\n%s\n%s", patience, what, &m.said, m.journal())
		}
	}
}

// require skips where there is no systemd, or no way to boot it; where CI is set, and the machine is one that could,
// it fails.
func require(t *testing.T) {
	t.Helper()
	var caps [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	m := unix.Capget(&header, &caps[0])
	if m != nil || os.Geteuid() != 0 || caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		t.Skip("systemd needs to be started by root, with CAP_SYS_ADMIN, which user namespaces do not replace: its control groups are the machine's")
	}
	for _, file := range []string{"/usr/lib/systemd/systemd", "/usr/lib/systemd/systemd-networkd"} {
		if _, err := os.Stat(file); err != nil {
			lab.Lacking(t, "%v", err)
		}
	}
	for _, name := range []string{"nsenter", "ip", "nft", "conntrack", "bash", "systemctl"} {
		if _, err := exec.LookPath(name); err != nil {
			lab.Lacking(t, "%v", err)
		}
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil || !bytes.Contains(kinds, []byte("\tcgroup2\n")) {
		lab.Lacking(t, "this kernel has no control groups of version 2")
	}
}

// build builds ipmasq once, in a folder that goes at the end.
var build = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(os.Getenv(envBuilt), "ipmasq")
	if given := os.Getenv(built.Program); given != "" {
		text, err := os.ReadFile(given)
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, text, 0o755)
	}
	c := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/ipmasq")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ipmasq: %w\n%s", err, out)
	}
	return path, nil
})

func ipmasq(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
