package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// quiet is what every host starts from. A new namespace inherits some settings from the machine and some from the kernel's source; these are what the
// latter says, or what keeps a test from waiting. Those the kernel does not know are left out.
var quiet = [...][2]string{
	{"net.ipv4.ip_forward", "0"},
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.default.rp_filter", "0"},
	{"net.ipv4.conf.all.arp_ignore", "0"},
	{"net.ipv4.conf.default.arp_ignore", "0"},
	{"net.ipv4.conf.all.arp_announce", "0"},
	{"net.ipv4.conf.default.arp_announce", "0"},
	{"net.ipv4.conf.all.route_localnet", "0"},
	{"net.ipv4.conf.default.route_localnet", "0"},
	{"net.ipv4.conf.all.accept_redirects", "1"},
	{"net.ipv4.conf.default.accept_redirects", "1"},
	{"net.ipv4.conf.all.send_redirects", "1"},
	{"net.ipv4.conf.default.send_redirects", "1"},
	{"net.ipv4.icmp_ratelimit", "0"},
	{"net.ipv6.icmp.ratelimit", "0"},
	{"net.ipv6.conf.all.forwarding", "0"},
	{"net.ipv6.conf.all.disable_ipv6", "0"},
	{"net.ipv6.conf.default.disable_ipv6", "0"},
	{"net.ipv6.conf.all.accept_dad", "0"},
	{"net.ipv6.conf.default.accept_dad", "0"},
	{"net.ipv6.conf.default.dad_transmits", "0"},
	{"net.ipv6.conf.all.accept_ra", "0"},
	{"net.ipv6.conf.default.accept_ra", "0"},
	{"net.ipv6.conf.default.router_solicitations", "0"},
}

// quieten must run inside the namespace.
func quieten() error {
	for _, setting := range quiet {
		if err := writeSysctl(setting[0], setting[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sysctlPath accepts net.ipv4.ip_forward, and net/ipv4/conf/eth0.5/rp_filter where a name has a dot in it.
func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return "/proc/sys/" + name
}

func writeSysctl(name, value string) error {
	f, err := os.OpenFile(sysctlPath(name), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// Sysctl sets a sysctl of the host, such as net.ipv4.ip_forward. A name with a slash in it is taken as a path
// below /proc/sys, for interfaces with a dot in their name.
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	h.must(h.Do(func() error { return writeSysctl(name, value) }))
}

// GetSysctl reads a sysctl of the host, without its newline.
func (h *Host) GetSysctl(name string) string {
	h.lab.t.Helper()
	var value string
	h.must(h.Do(func() error {
		b, err := os.ReadFile(sysctlPath(name))
		value = strings.TrimSpace(string(b))
		return err
	}))
	return value
}

// HasSysctl reports whether the kernel knows a sysctl.
func (h *Host) HasSysctl(name string) bool {
	err := h.Do(func() error {
		_, err := os.Stat(sysctlPath(name))
		return err
	})
	return err == nil
}

// HasIPv6 reports whether the kernel has IPv6: one that was booted with
// ipv6.disable=1 has not.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// forwarding names the switches of the families that the kernel has.
func forwarding() []string {
	names := []string{"net.ipv4.ip_forward"}
	if HasIPv6() {
		names = append(names, "net.ipv6.conf.all.forwarding")
	}
	return names
}
