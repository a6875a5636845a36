//go:build vm

package packet

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/test/lab"
)

// machineNetNS is the machine's first network namespace, where init.sh keeps it.
const machineNetNS = "/machine-netns"

// kernelLog reads what the kernel writes to its log from now on.
type kernelLog struct{ fd int }

func newKernelLog(t *testing.T) kernelLog {
	t.Helper()
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return kernelLog{fd}
}

// levels are the levels of the lines that begin with a prefix and hold a word,
// by what stands between the prefix and the next blank.
func (l kernelLog) levels(t *testing.T, prefix, word string) map[string]int {
	t.Helper()
	out := map[string]int{}
	record := make([]byte, 8192)
	for {
		n, err := unix.Read(l.fd, record)
		switch err {
		case unix.EAGAIN:
			return out
		case unix.EPIPE: // overwritten before it was read
			t.Fatal("the log is too short")
		case nil:
		default:
			t.Fatal(err)
		}
		head, text, _ := bytes.Cut(record[:n], []byte(";"))
		priority, _, _ := strings.Cut(string(head), ",")
		name, rest, ok := strings.Cut(strings.TrimPrefix(string(text), prefix), " ")
		if !ok || !strings.HasPrefix(string(text), prefix) || !strings.Contains(rest, word) {
			continue
		}
		level, err := strconv.Atoi(priority)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		out[name] = level & 7
	}
}

// Lines in the kernel log have the level that the policy says, and `warn` where
// it says none. Only the log of the machine's first network namespace is for
// everybody; here the machine logs for all.
func TestVMLogLevel(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	policy := zones[:strings.Index(zones, "  dmz")] + "  wan: {interfaces: [eth0]}\nmasquerade:\n  - {from: lan, to: wan}\nforward:\n  rules:\n"
	levels := []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
	for i, level := range levels {
		policy += fmt.Sprintf("    - {name: r%d, from: lan, to: wan, protocol: udp, ports: %d, action: drop, log: {prefix: \"level=%s \", level: %[3]s}}\n", i, 1000+i, level)
	}
	policy += "    - {name: unsaid, from: lan, to: wan, protocol: udp, ports: 2000, action: drop, log: {prefix: \"level=unsaid \"}}\n"
	g := applied(t, topo, policy)
	each(t, func(t *testing.T, ip family) {
		log := newKernelLog(t)
		send := func(port int) {
			g.LAN1.SendPacket("eth0", lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 999, DstPort: uint16(port)}.Bytes())
		}
		for i := range levels {
			send(1000 + i)
		}
		send(2000)
		g.Settle()
		got := log.levels(t, "level=", "DST=")
		for i, level := range levels {
			if n, ok := got[level]; !ok || n != i {
				t.Errorf("the level %s is logged: %v, with %d, want %d", level, ok, n, i)
			}
		}
		if n, ok := got["unsaid"]; !ok || n != 4 {
			t.Errorf("without a level it is logged: %v, with %d, want 4", ok, n)
		}
	})
	g.delete(t)
}

// The size of the table of flows is the machine's. Exactly so many connections
// are open, in any of its network namespaces, and delete puts back what was.
func TestVMConntrackMax(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest(), lab.WithoutDMZ())
	answering(topo.Server)
	g := applied(t, topo, twoZones+"masquerade: {from: lan, to: wan}\n")
	max := func() string {
		t.Helper()
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	const most = 12
	dir := t.TempDir()
	file := filepath.Join(dir, "machine.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("version: 1\ngateway:\n  conntrack: {max: %d}\n", most)), 0o600); err != nil {
		t.Fatal(err)
	}
	machine := func(command string, args ...string) {
		t.Helper()
		out, err := exec.Command(g.program, append([]string{command, "--netns", machineNetNS, "--state-dir", dir + "/state"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ipmasq %s: %v\n%s", command, err, out)
		}
	}
	before := max()
	machine("apply", file)
	t.Cleanup(func() { machine("delete") })
	if now := max(); now != fmt.Sprint(most) {
		t.Errorf("nf_conntrack_max is %s", now)
	}
	each(t, func(t *testing.T, ip family) {
		g.GW.Run(t, "conntrack", "-F")
		for range most {
			carries(t, opens(t, g.LAN1, at(ip.outside, 80), ip.uplink))
		}
		fails(t, g.LAN2, at(ip.outside, 80), lab.IsTimeout)
		g.GW.Run(t, "conntrack", "-F")
		opens(t, g.LAN2, at(ip.outside, 80), ip.uplink)
	})
	machine("delete")
	if now := max(); now != before {
		t.Errorf("delete leaves nf_conntrack_max at %s, and it was %s", now, before)
	}
	g.delete(t)
}

// Ethernet pairs take no flows themselves. The kernel asks them where the policy
// has `hardware`, and only there; then it says so, and nothing has changed.
func TestVMOffloadHardware(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server)
	g := applied(t, topo, offloaded)
	rules := g.ruleset(t)
	file := filepath.Join(g.dir, "hardware.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"+strings.Replace(offloaded, "[lan, wan]}", "[lan, wan], hardware: true}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"plan", "apply"} {
		out, err := exec.Command(g.program, command, "--netns", g.GW.NetNS(), "--state-dir", g.dir+"/state", file).CombinedOutput()
		for _, want := range []string{file + ":11:12: gateway offload: ", "`hardware`", "eth0, eth1"} {
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v, and it does not say %q:\n%s", command, err, want, out)
			}
		}
	}
	if now := g.ruleset(t); now != rules {
		t.Errorf("rules have changed\n%s", difference(rules, now))
	}
	each(t, func(t *testing.T, ip family) {
		c := opens(t, g.LAN1, at(ip.outside, 80), ip.uplink)
		carries(t, c)
		g.offloads(t, ip, "tcp")
	})
	g.delete(t)
}
