package iptables

import (
	"os/exec"
	"syscall"

	"github.com/coreos/go-iptables/iptables"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// version asks a program which one it is.
func version(f ruleset.Family, tool string) (v [3]int, err error) {
	proto := iptables.ProtocolIPv4
	if f == ruleset.IPv6 {
		proto = iptables.ProtocolIPv6
	}
	t, err := iptables.New(iptables.IPFamily(proto), iptables.Path(tool))
	if err != nil {
		return v, err
	}
	v[0], v[1], v[2] = t.GetIptablesVersion()
	return v, nil
}

// tie has a program end with this one, however that ends: who looks at the rules
// after a crash must not have them changed behind him. The thread that starts the
// program waits for it.
func tie(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
