package compile

import (
	"fmt"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// service is a range of ports that an entry translates, of a protocol (0: any)
// and in some families.
type service struct {
	proto       uint8
	first, last uint16
	families    [2]bool
}

// services are what an entry that translates sources is for.
func services(protocols []policy.Protocol, ports []policy.Ports, families [2]bool) []service {
	if len(protocols) == 0 {
		protocols = []policy.Protocol{{}}
	}
	if len(ports) == 0 {
		ports = []policy.Ports{{First: 0, Last: 65535}}
	}
	var out []service
	for _, proto := range protocols {
		for _, p := range ports {
			out = append(out, service{proto.Number, p.First, p.Last, families})
		}
	}
	return out
}

// helpersFit refuses helpers that would never read along, and two that would
// on the same port, of which the kernel gives a flow only one. Narrowed says
// that an entry is for some ports alone.
func (c *compiler) helpersFit(list []policy.Helper, entry string, narrowed bool, translated []service) {
	for i, h := range list {
		var ports, family bool
		for _, k := range kernelHelpers(h.Name) {
			for _, p := range helperPorts(h, k) {
				for _, s := range translated {
					if s.proto != 0 && s.proto != k.proto || s.last < p.First || p.Last < s.first {
						continue
					}
					ports = true
					family = family || s.families[0] || s.families[1] && k.family == ruleset.Inet
				}
			}
			c.helpersApart(h, k, list[:i])
		}
		switch {
		case !ports:
			c.fail(h.Place, fmt.Sprintf("the helper %s is never used, since %s has none of its ports; name the ports that clients connect to, as in `helpers: {%s: PORT}`, or take it out", h.Name, entry, h.Name))
		case !family:
			c.fail(h.Place, fmt.Sprintf("the helper %s is never used, since the kernel has it for IPv4 alone, and %s is not for IPv4; take it out", h.Name, entry))
		case h.Name == "sane" && narrowed:
			// There is no nf_nat_sane.
			c.fail(h.Place, fmt.Sprintf("the helper sane opens the way to ports that %s leaves out, and the kernel has nothing that translates them; take it out, and name the ports that saned uses for data (data_portrange) too", entry))
		case h.Name == "netbios-ns":
			// nf_conntrack_broadcast_help looks at packets of local sockets.
			c.warning(h.Place, fmt.Sprintf("the helper netbios-ns of %s does nothing: the kernel's reads what the gateway itself sends, and nothing that it forwards", entry))
		}
	}
}

// helpersApart refuses a helper that has a port with an earlier one in common.
func (c *compiler) helpersApart(h policy.Helper, k kernelHelper, earlier []policy.Helper) {
	for _, other := range earlier {
		for _, ok := range kernelHelpers(other.Name) {
			if ok.proto != k.proto {
				continue
			}
			for _, p := range helperPorts(h, k) {
				if slices.ContainsFunc(helperPorts(other, ok), func(q policy.Ports) bool { return p.First <= q.Last && q.First <= p.Last }) {
					c.fail(h.Place, fmt.Sprintf("the helpers %s and %s have a %s port in common, and a connection can have one helper; give them different ports", other.Name, h.Name, policy.ProtocolName(k.proto)),
						policy.Note{Place: other.Place, Message: other.Name + " stands here"})
					return
				}
			}
		}
	}
}

// claimed are what an entry with helpers forwards.
func claimed(helpers []policy.Helper, claims []claim) []service {
	if len(helpers) == 0 {
		return nil
	}
	out := make([]service, len(claims))
	for i := range claims {
		k := &claims[i]
		out[i] = service{proto: k.proto, first: k.first, last: k.last}
		out[i].families[familyIndex(k.target)] = true
	}
	return out
}
