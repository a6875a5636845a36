package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/state"
)

// first has a host looked at.
func first(t *testing.T, h *Host, id string, s Severity) Finding {
	t.Helper()
	found := Examine(h)
	if len(found) == 0 || found[0].ID != id || found[0].Severity != s || len(found[0].Evidence) == 0 || len(found[0].Mend) == 0 {
		t.Fatalf("want %s %s first, and found %+v", s, id, found)
	}
	return found[0]
}

// A kernel without IPv6 is told once, where a zone has IPv6 networks, and not
// what follows from it.
func TestKernelWithoutIPv6(t *testing.T) {
	t.Parallel()
	none := map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/forwarding": "1"}
	both := strings.Replace(written, "to: 192.168.1.10", `to: [192.168.1.10, "fd00:1::99"]`, 1)
	h := hostOf(t, both)
	h.Sysctls = none
	if f := first(t, h, "ipv6-disabled", Broken); !strings.Contains(f.Title, "the kernel has no IPv6, and zone lan") {
		t.Errorf("it says %q", f.Title)
	}
	if ids := found(Examine(h)); len(ids) != 1 {
		t.Errorf("found %q", ids)
	}
	h = hostOf(t, strings.Replace(written, `, "fd00:1::/64"`, "", 1))
	h.Sysctls = none
	if ids := found(Examine(h)); len(ids) != 0 {
		t.Errorf("without IPv6 networks it found %q", ids)
	}
}

// What no gateway can be given in a test.
func TestWrittenEvidence(t *testing.T) {
	t.Parallel()
	first(t, &Host{Kernel: KernelEvidence{Rules: errors.New("protocol not supported")}}, "no-nftables", Broken)
	if f := first(t, &Host{Kernel: KernelEvidence{Rules: errors.New("the module ip_tables is missing"), Backend: "iptables-legacy"}}, "no-nftables", Broken); !strings.Contains(f.Title, "no ip_tables") {
		t.Errorf("of iptables-legacy it says %q", f.Title)
	}
	applied := func() *Host {
		return &Host{Policy: &policy.Policy{}, Applied: &engine.Applied{}, Status: &engine.Status{InForce: true}}
	}

	h := applied()
	h.State.Unit = "/etc/systemd/system/multi-user.target.wants/ipmasq.service"
	first(t, h, "daemon-gone", Risk)
	h.State.Daemon = &state.Daemon{PID: 7}
	if found := Examine(h); len(found) > 0 {
		t.Errorf("the daemon runs: %+v", found)
	}

	h = applied()
	h.State.History = []state.Entry{{Result: state.ResultFailed, Why: "no space left on device", Digest: "abc", Time: time.Unix(0, 0), Files: []string{"/etc/p.yaml"}}}
	f := first(t, h, "apply-failed", Risk)
	if !strings.Contains(f.Evidence[0], "no space left on device") {
		t.Errorf("it does not say why: %q", f.Evidence)
	}
	h.State.History = append(h.State.History, state.Entry{Result: state.ResultApplied, Digest: "abc"})
	if found := Examine(h); len(found) > 0 {
		t.Errorf("a later apply was fine: %+v", found)
	}

	h = applied()
	h.Status.Unconfirmed = &engine.Unconfirmed{Digest: "abc", Left: -time.Second}
	first(t, h, "policy-unconfirmed", Risk)
}

func TestModules(t *testing.T) {
	t.Parallel()
	helpers := func(names ...string) (out []policy.Helper) {
		for _, n := range names {
			out = append(out, policy.Helper{Name: n})
		}
		return out
	}
	p := &policy.Policy{
		Masquerade:  []policy.Masquerade{{Helpers: helpers("ftp", "sane", "tftp")}},
		PortForward: []policy.PortForward{{Helpers: helpers("ftp", "snmp")}},
	}
	got := lacking(natModules(p), []byte("nf_nat_tftp 16384 1 - Live 0x0000000000000000\nnf_nat 61440 1 x, Live 0x0\n"), []byte("kernel/net/ipv4/netfilter/nf_nat_snmp_basic.ko\n"))
	if want := []string{"nf_nat_ftp"}; !slices.Equal(got, want) {
		t.Errorf("lacks %q, want %q", got, want)
	}
	f := first(t, &Host{Policy: p, Applied: &engine.Applied{}, Kernel: KernelEvidence{Lacking: got}}, "helper-module", Broken)
	if f.Mend[0] != "modprobe nf_nat_ftp" {
		t.Errorf("it is mended by %q", f.Mend)
	}
}

// A setting that a file makes at boot comes back, and the file is named.
func TestConfigured(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/sysctl.d/50-default.conf": "net.ipv4.conf.*.rp_filter = 2\nnet.ipv4.ip_forward=1\n",
		"usr/lib/sysctl.d/99-mine.conf":    "net.ipv4.ip_forward = 1\n",
		"etc/sysctl.d/99-mine.conf":        "# hardening\n; not this\n-net/ipv4/ip_forward = 0\n",
		"etc/sysctl.conf":                  "net.ipv4.conf.eth1.forwarding=0\nnonsense\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{configured: readConfigured(root), Sysctls: map[string]string{
		"net/ipv4/ip_forward": "0", "net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/conf/eth1/rp_filter": "1", "net/ipv4/conf/eth1/forwarding": "0",
	}}
	for name, want := range map[string]string{
		"net/ipv4/ip_forward": "etc/sysctl.d/99-mine.conf:3", "net/ipv4/conf/eth0/rp_filter": "usr/lib/sysctl.d/50-default.conf:1",
		"net/ipv4/conf/eth1/rp_filter": "", "net/ipv4/conf/eth1/forwarding": "etc/sysctl.conf:1",
	} {
		got := ""
		if c := h.setAtBoot(name); c != nil {
			got, _ = filepath.Rel(root, c.place)
		}
		if got != want {
			t.Errorf("%s is set by %q, want %q", name, got, want)
		}
	}
	if text := h.sysctl("net/ipv4/ip_forward"); !strings.HasSuffix(text, "99-mine.conf:3 sets it") || len(h.keeps("net/ipv4/ip_forward")) != 1 {
		t.Errorf("it says %s", text)
	}
}

// Commands work on the host that was looked at.
func TestPlace(t *testing.T) {
	t.Parallel()
	p := Place{Prefix: []string{"ip", "netns", "exec", "gw"}, Flags: []string{"--netns", "gw"}}
	for line, want := range map[string]string{
		"sysctl -w a=1":             "ip netns exec gw sysctl -w a=1",
		"ipmasq apply /etc/p.yaml":  "ipmasq apply --netns gw /etc/p.yaml",
		"# ip route add default":    "# ip route add default",
		"systemctl restart ipmasq":  "systemctl restart ipmasq",
		"kill 7":                    "kill 7",
		"ip -6 route add x dev lo0": "ip netns exec gw ip -6 route add x dev lo0",
	} {
		if got := p.command(line); got != want {
			t.Errorf("%s becomes %s, want %s", line, got, want)
		}
		if got := (Place{}).command(line); got != line {
			t.Errorf("%s becomes %s", line, got)
		}
	}
}

// A shell takes names as they are.
func TestQuoted(t *testing.T) {
	t.Parallel()
	got := quoted([]string{"/etc/a-b.yaml", "it's here", "", "$HOME"})
	if want := []string{"/etc/a-b.yaml", `'it'\''s here'`, "''", "'$HOME'"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Broken ones come first, and of those the causes.
func TestOrder(t *testing.T) {
	t.Parallel()
	h := &Host{
		Sysctls: map[string]string{"net/ipv4/conf/all/route_localnet": "1", "net/netfilter/nf_conntrack_count": "100", "net/netfilter/nf_conntrack_max": "100"},
		State:   StateEvidence{Problem: errors.New("damaged")},
	}
	var got []string
	for _, f := range Examine(h) {
		got = append(got, f.Severity.String()+" "+f.ID)
	}
	if want := []string{"broken state-unusable", "broken conntrack-full", "risk route-localnet"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
