package compile

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// kernelHelper is a conntrack helper of the kernel: its name there, its
// protocol, the port where its servers listen, and the families it is for.
type kernelHelper struct {
	name   string
	proto  uint8
	port   uint16
	family ruleset.Family
}

// kernelHelpers gives the helpers that a name of the language stands for, as
// net/netfilter/nf_conntrack_*.c registers them.
func kernelHelpers(name string) []kernelHelper {
	const tcp, udp, v4, both = policy.ProtocolTCP, policy.ProtocolUDP, ruleset.IPv4, ruleset.Inet
	switch name {
	case "ftp":
		return []kernelHelper{{"ftp", tcp, 21, both}}
	case "irc":
		return []kernelHelper{{"irc", tcp, 6667, v4}}
	case "sip":
		return []kernelHelper{{"sip", udp, 5060, both}, {"sip", tcp, 5060, both}}
	case "tftp":
		return []kernelHelper{{"tftp", udp, 69, both}}
	case "pptp":
		return []kernelHelper{{"pptp", tcp, 1723, v4}}
	case "h323":
		return []kernelHelper{{"RAS", udp, 1719, both}, {"Q.931", tcp, 1720, both}}
	case "amanda":
		return []kernelHelper{{"amanda", udp, 10080, both}}
	case "sane":
		return []kernelHelper{{"sane", tcp, 6566, both}}
	case "snmp":
		return []kernelHelper{{"snmp", udp, 161, v4}}
	case "netbios-ns":
		return []kernelHelper{{"netbios-ns", udp, 137, v4}}
	}
	panic("compile: no such helper: " + name)
}

// helperPorts are the ports on which a helper reads along: its own, unless the
// policy names others.
func helperPorts(h policy.Helper, k kernelHelper) []policy.Ports {
	if len(h.Ports) > 0 {
		return mergePorts(h.Ports)
	}
	return []policy.Ports{{First: k.port, Last: k.port}}
}

// helpers has the kernel read along on the ports of an entry's helpers. The
// destination port is the one outside, where a port forward changes it.
func (c *compiler) helpers(ch *ruleset.Chain, o ruleset.Origin, list []policy.Helper) {
	for _, h := range list {
		for _, k := range kernelHelpers(h.Name) {
			name, isNew := c.named("helper_"+h.Name+"_"+policy.ProtocolName(k.proto), k.name)
			if isNew {
				c.out.Helpers = append(c.out.Helpers, &ruleset.Helper{
					Name: name, Helper: k.name, Protocol: k.proto, Family: k.family, Origin: origin("helpers", "", h.Place),
				})
			}
			r := c.rule(ch, o, ruleset.Action{}, equal(ruleset.L4Proto, k.proto),
				c.ports(ruleset.DstPort, helperPorts(h, k), fmt.Sprintf("%s_%s_ports", ch.Name, h.Name), o))
			r.Do = []ruleset.Statement{{Kind: ruleset.SetHelper, Object: name}}
		}
	}
}
