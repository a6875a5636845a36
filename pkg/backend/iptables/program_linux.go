package iptables

import (
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
