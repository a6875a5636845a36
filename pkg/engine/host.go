package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// hostFacts is what a plan needs to know of the host's links.
type hostFacts struct {
	link.Facts
	docker *compile.Docker // nil where the policy leaves Docker alone
}

func (e *Engine) facts() (hostFacts, error) {
	var f hostFacts
	err := e.NetNS.Do(func() (err error) {
		f.Facts, err = link.Read()
		return err
	})
	return f, err
}

// CompileFacts are the host's facts as the compiler takes them.
func CompileFacts(f link.Facts) compile.Facts { return hostFacts{Facts: f}.compile() }

func (f hostFacts) compile() compile.Facts {
	out := compile.Facts{Host: true, DefaultRoutes: f.DefaultInterfaces()}
	for _, l := range f.Links {
		var addresses []netip.Prefix
		for _, a := range l.Addresses {
			addresses = append(addresses, a.Prefix)
		}
		out.Links = append(out.Links, compile.Link{Name: l.Name, PointToPoint: l.PointToPoint, Addresses: addresses})
	}
	out.Local, out.Docker = f.Local, f.docker
	return out
}

// withSession adds the session that the command is run over, with the interface
// that the way back leaves by.
func (e *Engine) withSession(f compile.Facts) compile.Facts {
	if e.Session == nil {
		return f
	}
	s := *e.Session
	client := s.Client.Addr()
	s.Interface = client.Zone() // of a link-local address
	if s.Interface == "" {
		err := e.NetNS.Do(func() (err error) {
			s.Interface, err = link.Way(client)
			return err
		})
		if err != nil {
			return f // it is no client of this namespace
		}
	}
	f.Session = &s
	return f
}

// bridged warns of bridges whose own traffic the rules will judge, because
// br_netfilter shows it to them, and that the policy does not let pass: hosts
// on one bridge would lose sight of each other.
func (e *Engine) bridged(p *policy.Policy, f hostFacts) (warnings []string) {
	if v4, v6 := e.seesBridged(); !v4 && !v6 {
		return nil
	}
	for _, b := range Bridges(f.compile().Resolve(p), f.Facts) {
		warnings = append(warnings, fmt.Sprintf("br_netfilter shows what stays on the bridge %s to the rules, and no rule lets it pass: "+
			"its hosts will not reach each other; set net.bridge.bridge-nf-call-iptables and -ip6tables to 0, or add the forward rule {from: %s, to: %s, action: accept}",
			b.Name, b.Zone, b.Zone))
	}
	return warnings
}

// Bridge is a bridge in a zone.
type Bridge struct{ Name, Zone string }

// Bridges finds those of which the policy, whose zones are resolved, would not
// let pass what stays on them, were it shown to the rules.
func Bridges(p *policy.Policy, f link.Facts) (out []Bridge) {
	if p.Forward.Default == policy.Accept {
		return nil
	}
	for _, l := range f.Links {
		if l.Kind != "bridge" {
			continue
		}
		for _, z := range p.Zones {
			on := slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) })
			if on && !opensWithin(p, z.Name) {
				out = append(out, Bridge{l.Name, z.Name})
			}
		}
	}
	return out
}

// seesBridged says whether br_netfilter shows what bridges carry to the rules.
func (e *Engine) seesBridged() (v4, v6 bool) {
	_ = e.NetNS.Do(func() error {
		for name, sees := range map[string]*bool{"iptables": &v4, "ip6tables": &v6} {
			v, err := sysctl.Get("net/bridge/bridge-nf-call-" + name)
			*sees = err == nil && v == "1"
		}
		return nil
	})
	return v4, v6
}

// opensWithin says whether some rule accepts what stays in a zone.
func opensWithin(p *policy.Policy, zone string) bool {
	names := func(refs []policy.ZoneRef) bool {
		return len(refs) == 0 || slices.ContainsFunc(refs, func(r policy.ZoneRef) bool { return r.Any || r.Name == zone })
	}
	return slices.ContainsFunc(p.Forward.Rules, func(r policy.Rule) bool {
		return r.Action == policy.Accept && names(r.From) && names(r.To)
	})
}

// forwarding plans the sysctls. Where the kernel has no IPv6 there is none to
// forward, whatever the policy says: most say nothing of families.
func (e *Engine) forwarding(r *compile.Result, f hostFacts) ([]sysctl.Change, error) {
	var changes []sysctl.Change
	err := e.NetNS.Do(func() (err error) {
		want := sysctl.Forwarding{IPv4: r.IPv4, IPv6: r.IPv6 && sysctl.HasIPv6()}
		changes, err = sysctl.ForwardingChanges(want, f.RADefaultRouteLinks())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plan the sysctls: %w", err)
	}
	return changes, nil
}

// withoutIPv6 warns of what a policy says of IPv6 where the kernel has none.
func withoutIPv6(p *policy.Policy, r *compile.Result) []string {
	if !r.IPv6 || sysctl.HasIPv6() {
		return nil
	}
	for i := range p.Zones {
		z := &p.Zones[i]
		if slices.ContainsFunc(p.NetworksOf(z), func(a policy.Address) bool { return a.Low.Is6() }) {
			return []string{fmt.Sprintf("zone %s has IPv6 networks, and this kernel has no IPv6 (booted with ipv6.disable=1?): what the policy says of IPv6 has no effect", z.Name)}
		}
	}
	return nil
}

// writable finds out before anything is changed whether the sysctls can be.
func (e *Engine) writable(changes []sysctl.Change) error {
	return e.NetNS.Do(func() error {
		for _, c := range changes {
			if err := sysctl.Writable(c.Name); err != nil {
				return err
			}
		}
		return nil
	})
}
