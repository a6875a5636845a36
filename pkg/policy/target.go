package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// String gives the target as a policy writes it.
func (t Target) String() string {
	if t.First == 0 {
		return t.Addr.String()
	}
	ports := Ports{First: t.First, Last: t.Last}.String()
	if t.Addr.Is6() {
		return "[" + t.Addr.String() + "]:" + ports
	}
	return t.Addr.String() + ":" + ports
}

// AllTargets are where an entry without a map leads: one target, or several.
func (f *PortForward) AllTargets() []Target {
	if len(f.Targets) == 0 {
		return []Target{f.To}
	}
	return f.Targets
}

const targetTakes = "an address, address:port or \"[address]:port\""

// parseTarget reads addr, addr:port, addr:a-b, [v6], [v6]:port and [v6]:a-b.
// An IPv6 address without brackets is an address alone, because its last group
// cannot be told from a port.
func parseTarget(text string) (t Target, problem string) {
	host, ports, hasPorts := text, "", false
	switch {
	case strings.HasPrefix(text, "@"):
		return t, fmt.Sprintf("%s is a set, and a target is one address; write that", quote(text))
	case strings.HasPrefix(text, "["):
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return t, fmt.Sprintf("the bracket in %s is not closed", quote(text))
		}
		host, ports = text[1:end], text[end+1:]
		if ports != "" {
			if ports[0] != ':' {
				return t, fmt.Sprintf("%s: after the bracket comes a colon and a port", quote(text))
			}
			ports, hasPorts = ports[1:], true
		}
		if !strings.Contains(host, ":") {
			return t, fmt.Sprintf("%s: brackets are for IPv6 addresses; write %s", quote(text), quote(host+text[end+1:]))
		}
	case strings.Count(text, ":") == 1:
		host, ports, hasPorts = strings.Cut(text, ":")
	}
	if strings.ContainsAny(host, "/-") && len(host) < len("255.255.255.255-255.255.255.255/32") && host[0] >= '0' && host[0] <= '9' {
		return t, fmt.Sprintf("a target is one address; %s is several", quote(host))
	}
	t.Addr, problem = parseAddr(host)
	switch {
	case problem != "" && (t.Addr.IsValid() || dottedQuad(host)):
		return t, problem
	case problem != "":
		return t, fmt.Sprintf("%s is not a target; write an address, address:port or [IPv6 address]:port", quote(text))
	case t.Addr.IsLoopback():
		return t, fmt.Sprintf("%s is the gateway itself, and a packet from outside cannot be sent there; handing a flow to the gateway's own port is what `redirect` is for", t.Addr)
	case t.Addr.IsUnspecified(), t.Addr.IsMulticast(), t.Addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return t, fmt.Sprintf("%s is not the address of a host; write the one that the service runs on", t.Addr)
	}
	if t.Addr.Is6() && text == host {
		t.MaybePort = beforePort(host)
	}
	if hasPorts {
		t.First, t.Last, problem = parsePorts(ports)
	}
	return t, problem
}

// beforePort gives the address that is left without a last group of at least two
// decimal digits, if that is an address.
func beforePort(text string) netip.Addr {
	i := strings.LastIndexByte(text, ':')
	if _, number := parseNumber(text[i+1:], 65535); !number || len(text)-i <= 2 {
		return netip.Addr{}
	}
	host, err := netip.ParseAddr(text[:i])
	if err != nil {
		return netip.Addr{}
	}
	return host
}

// rangeProblem says what is wrong with sending count ports to a target, or
// gives "". A range keeps its offset in a range of the same length.
func rangeProblem(ports Ports, t Target) string {
	to := Ports{First: t.First, Last: t.Last}
	if t.First == 0 || t.First == t.Last || ports.Count() == to.Count() {
		return ""
	}
	return fmt.Sprintf("%s is %s and %s is %s; a range goes to one of the same length, to a single port, or to an address alone",
		ports, countPorts(ports), to, countPorts(to))
}

func countPorts(p Ports) string {
	if p.Count() == 1 {
		return "1 port"
	}
	return fmt.Sprintf("%d ports", p.Count())
}
