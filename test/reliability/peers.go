package main

import (
	"embed"
	"fmt"
	"os/exec"
	"strings"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
)

// configurations are templates: the rules that are loaded in turn differ by one port forward.
//
//go:embed peers
var configurations embed.FS

// peer is a way of loading the rules of a gateway.
type peer struct {
	name     string
	needs    []string   // programs
	iptables string     // which one the rules are for
	files    []file     // written before each load
	daemons  []daemon   // run all the while
	start    [][]string // loads the rules for the first time
	reload   [][]string // and again
}

// file is a configuration and where it goes to.
type file struct {
	template, path string
	after          string // a file that it is appended to
}

// daemon is a program that stays, and a command that succeeds once it is ready.
type daemon struct{ command, ready []string }

// The folder of a run, where files and commands name it.
const here = "$DIR"

// lacks names what the machine has not got for this peer.
func (p *peer) lacks() string {
	var missing []string
	for _, name := range p.needs {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "there is no " + strings.Join(missing, ", no ")
	}
	if p.iptables != "" {
		// In the namespace of this process: it has no rules.
		if out, err := exec.Command(p.iptables, "-t", "nat", "-S").CombinedOutput(); err != nil {
			return fmt.Sprintf("the kernel does not do %s: %s", p.iptables, strings.TrimSpace(string(out)))
		}
	}
	return ""
}

func peers(t lab.TB) []*peer {
	all := []*peer{ipmasq(t, ""), ipmasq(t, "nft"), ipmasq(t, "legacy"), nftKeep(), nftOnce(), nftTwice()}
	for _, kind := range []string{"nft", "legacy"} {
		all = append(all, restore(kind), script(kind))
	}
	return append(all, ferm(), shorewall(), ufw(), firewalld())
}

// ipmasq is on nftables, or on a variant of iptables: the one that it finds under
// that name.
func ipmasq(t lab.TB, kind string) *peer {
	apply := []string{built.Ipmasq(t), "apply", "--state-dir", here + "/state", here + "/policy.yaml"}
	p := &peer{
		name:  "ipmasq apply",
		files: []file{{template: "ipmasq/policy.yaml", path: here + "/policy.yaml"}},
	}
	if kind != "" {
		p.name += ", backend: iptables (" + kind + ")"
		p.iptables = "iptables-" + kind
		p.needs = []string{"iptables-" + kind, "ip6tables-" + kind}
		p.start = [][]string{{"mkdir", "-p", here + "/bin"}}
		for _, end := range []string{"", "-save", "-restore"} {
			for _, family := range []string{"ip", "ip6"} {
				link := fmt.Sprintf(`ln -sf "$(command -v %[1]stables-%[2]s%[3]s)" "$0/%[1]stables%[3]s"`, family, kind, end)
				p.start = append(p.start, []string{"sh", "-c", link, here + "/bin"})
			}
		}
		apply = append([]string{"sh", "-c", `PATH=$0:$PATH exec "$@"`, here + "/bin"}, apply...)
	}
	p.start, p.reload = append(p.start, apply), [][]string{apply}
	return p
}

// nftOnce is how nftables.service reloads: the file begins with flush ruleset.
func nftOnce() *peer { return nftFile("nft -f, flush ruleset in the file", "nft/flush.nft") }

// nftKeep is what those do who know that the drop policy of a new chain comes late.
func nftKeep() *peer { return nftFile("nft -f, flush table in the file", "nft/keep.nft") }

// nftFile is a file that begins with another, in one transaction.
func nftFile(name, first string) *peer {
	load := [][]string{{"nft", "-f", here + "/gateway.nft"}}
	return &peer{
		name: name, needs: []string{"nft"},
		files: []file{{template: first, path: here + "/first.nft"}, {template: "nft/gateway.nft", path: here + "/gateway.nft", after: here + "/first.nft"}},
		start: load, reload: load,
	}
}

// nftTwice is how nftables.service restarts: stopping it flushes.
func nftTwice() *peer {
	load := []string{"nft", "-f", here + "/gateway.nft"}
	return &peer{
		name: "nft flush ruleset; nft -f", needs: []string{"nft"},
		files: []file{{template: "nft/gateway.nft", path: here + "/gateway.nft"}},
		start: [][]string{load}, reload: [][]string{{"nft", "flush", "ruleset"}, load},
	}
}

func restore(kind string) *peer {
	load := [][]string{{"iptables-" + kind + "-restore", here + "/gateway.rules"}}
	return &peer{
		name: "iptables-" + kind + "-restore", needs: load[0][:1], iptables: "iptables-" + kind,
		files: []file{{template: "iptables/gateway.rules", path: here + "/gateway.rules"}},
		start: load, reload: load,
	}
}

func script(kind string) *peer {
	load := [][]string{{"sh", here + "/gateway.sh"}}
	return &peer{
		name: "script of iptables-" + kind, needs: []string{"iptables-" + kind}, iptables: "iptables-" + kind,
		files: []file{{template: "iptables/gateway.sh", path: here + "/gateway.sh"}},
		start: load, reload: load,
	}
}

func ferm() *peer {
	load := [][]string{{"ferm", "/etc/ferm/ferm.conf"}}
	return &peer{
		name: "ferm", needs: []string{"ferm", "iptables"},
		files: []file{{template: "ferm/ferm.conf", path: "/etc/ferm/ferm.conf"}},
		start: load, reload: load,
	}
}

func shorewall() *peer {
	p := &peer{
		name: "shorewall reload", needs: []string{"shorewall", "iptables"},
		start: [][]string{
			{"sed", "-i", "s/^STARTUP_ENABLED=.*/STARTUP_ENABLED=Yes/", "/etc/shorewall/shorewall.conf"},
			{"shorewall", "start"},
		},
		reload: [][]string{{"shorewall", "reload"}},
	}
	for _, name := range []string{"zones", "interfaces", "policy", "snat", "rules"} {
		p.files = append(p.files, file{template: "shorewall/" + name, path: "/etc/shorewall/" + name})
	}
	return p
}

func ufw() *peer {
	const before = "/etc/ufw/before.rules"
	return &peer{
		name: "ufw reload", needs: []string{"ufw", "iptables"},
		files: []file{{template: "ufw/nat.rules", path: before, after: "/usr/share/ufw/iptables/before.rules"}},
		start: [][]string{
			{"ufw", "--force", "enable"},
			{"ufw", "allow", "in", "on", "eth1"},
			{"ufw", "route", "allow", "in", "on", "eth1", "out", "on", "eth0", "from", "192.168.1.0/24"},
			{"ufw", "route", "allow", "in", "on", "eth0", "to", "192.168.1.10", "port", "8080", "proto", "tcp"},
			{"ufw", "route", "allow", "in", "on", "eth0", "to", "192.168.1.11", "port", "5001", "proto", "tcp"},
		},
		reload: [][]string{{"ufw", "reload"}},
	}
}

func firewalld() *peer {
	// A bus of its own.
	const bus = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + here + "/bus"
	return &peer{
		name: "firewall-cmd --reload", needs: []string{"firewalld", "firewall-cmd", "dbus-daemon"},
		files: []file{
			{template: "firewalld/dbus.conf", path: here + "/dbus.conf"},
			{template: "firewalld/external.xml", path: "/etc/firewalld/zones/external.xml"},
			{template: "firewalld/internal.xml", path: "/etc/firewalld/zones/internal.xml"},
			{template: "firewalld/policy.xml", path: "/etc/firewalld/policies/gateway.xml"},
		},
		daemons: []daemon{
			{
				command: []string{"dbus-daemon", "--nofork", "--nopidfile", "--config-file=" + here + "/dbus.conf"},
				ready:   []string{"test", "-S", here + "/bus"},
			},
			{
				command: []string{"env", bus, "firewalld", "--nofork", "--nopid"},
				ready:   []string{"env", bus, "firewall-cmd", "--state"},
			},
		},
		reload: [][]string{{"env", bus, "firewall-cmd", "--reload"}},
	}
}

// versions tells what was measured with.
func versions() string {
	said := []string{"Linux " + version("uname", "-r")}
	for _, program := range []struct {
		name    string
		command []string
	}{
		{"nft", []string{"nft", "--version"}},
		{"iptables", []string{"iptables", "--version"}},
		{"ferm", []string{"ferm", "--version"}},
		{"shorewall", []string{"shorewall", "version"}},
		{"ufw", []string{"ufw", "--version"}},
		{"firewalld", []string{"firewall-offline-cmd", "--version"}},
	} {
		v := version(program.command[0], program.command[1:]...)
		switch {
		case v == "":
			continue
		case !strings.Contains(v, program.name):
			v = program.name + " " + v
		}
		said = append(said, v)
	}
	return strings.Join(said, ", ")
}

func version(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSuffix(strings.TrimSpace(line), ".")
}
