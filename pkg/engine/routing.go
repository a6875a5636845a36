package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// Routing is the policy routing that comes and goes with a plan.
type Routing struct{ Add, Remove link.Routing }

// Empty says whether nothing changes.
func (r Routing) Empty() bool { return r.Add.Empty() && r.Remove.Empty() }

// routingOf compares what symmetric uplinks need with what is there. What is
// there is known by its protocol number, so that nothing has to be remembered:
// after a crash the next apply or delete finds it.
func (f hostFacts) routingOf(uplinks []compile.Uplink) (changes Routing, warnings []string, err error) {
	var want link.Routing
	var errs policy.Errors
	for i := range uplinks {
		u := &uplinks[i]
		if problem := f.waiting(u); problem != "" {
			if !strings.Contains(u.Interface, "/") { // or compile has said that there is none
				warnings = append(warnings, fmt.Sprintf("%s of the symmetric zone %s %s: what comes in there is answered by the default route until the policy is applied again", u.Interface, u.Zone, problem))
			}
			continue
		}
		if message := f.uplink(u, &want); message != "" {
			errs = append(errs, &policy.Error{Place: u.Place, Message: message})
		}
	}
	changes = Routing{Add: want.Without(f.Own), Remove: f.Own.Without(want)}
	if len(errs) > 0 {
		return changes, warnings, errs
	}
	return changes, warnings, nil
}

// uplink adds the routes and rules of an uplink to what is wanted, or says why
// there can be none.
func (f hostFacts) uplink(u *compile.Uplink, want *link.Routing) string {
	found := false
	for i, family := range []link.Family{link.IPv4, link.IPv6} {
		if !u.Families[i] || family == link.IPv6 && !sysctl.HasIPv6() {
			continue
		}
		gateway, onLink, ok := u.Gateway[i], false, u.Gateway[i].IsValid()
		switch {
		case !ok:
			gateway, onLink, ok = f.NextHop(family, u.Interface)
		case !gateway.IsLinkLocalUnicast() && !f.reachable(u.Interface, family):
			continue // the kernel cannot tell where the next hop is
		}
		switch {
		case ok:
		case u.Gateway[1-i].IsValid() || !f.reachable(u.Interface, family):
			continue // an uplink of the other family alone
		default:
			return noNextHop(u.Interface, family.String()+" ")
		}
		found = true
		if u.ChosenMark {
			if j := slices.IndexFunc(f.ForeignRules, func(r link.Rule) bool { return r.Family == family && meet(r, u) }); j >= 0 {
				return fmt.Sprintf("a rule of somebody else (%s) takes what has the mark %#x/%#x; write `symmetric: {mark: ...}` with bits that nobody uses", f.ForeignRules[j], u.Mark, u.Mask)
			}
		}
		table := int(u.Table)
		want.Rules = append(want.Rules, link.Rule{Family: family, Priority: u.Priority, Mark: u.Mark, Mask: u.Mask, Table: table})
		taken := slices.Contains(f.ForeignTables, link.TableOf{Family: family, Table: table})
		switch {
		case taken && u.Chosen:
			return fmt.Sprintf("table %d holds routes of somebody else; write `symmetric: {table: ...}` with a number that nobody uses", table)
		case taken && f.leadsOut(family, table):
			continue // it is used as it is
		case !taken:
			// Hosts beside the gateway on the uplink are reached directly.
			for _, r := range f.Connected {
				if r.Family == family && r.Interface == u.Interface {
					r.Table = table
					want.Routes = append(want.Routes, r)
				}
			}
		}
		want.Routes = append(want.Routes, link.Route{
			Family: family, Table: table, To: link.AnyAddress(family), Gateway: gateway, OnLink: onLink, Interface: u.Interface,
		})
	}
	if !found {
		return noNextHop(u.Interface, "")
	}
	return ""
}

func noNextHop(name, family string) string {
	way := "write `symmetric: {gateway: ADDRESS}`"
	if family != "" {
		way += ", of both families or, where answers in this one need not leave here, of the other alone"
	}
	return fmt.Sprintf("no route through %s says what its %snext hop is; %s", name, family, way)
}

// meet says whether packets with the mark of an uplink are for a rule.
func meet(r link.Rule, u *compile.Uplink) bool {
	common := r.Mask & u.Mask
	return common != 0 && (r.Mark^u.Mark)&common == 0
}

// waiting says what an interface lacks that it may have later, or "".
func (f hostFacts) waiting(u *compile.Uplink) string {
	l, there := f.Link(u.Interface)
	_, _, routed4 := f.NextHop(link.IPv4, u.Interface)
	_, _, routed6 := f.NextHop(link.IPv6, u.Interface)
	switch {
	case !there || !l.Up:
		return "is not up"
	case !f.reachable(u.Interface, link.IPv4) && !f.reachable(u.Interface, link.IPv6) && !routed4 && !routed6:
		return "has no address"
	}
	return ""
}

// reachable says whether an interface has an address that others than its
// neighbours can send to.
func (f hostFacts) reachable(name string, family link.Family) bool {
	l, _ := f.Link(name)
	return slices.ContainsFunc(l.Addresses, func(a link.Address) bool {
		return a.Prefix.Addr().Is4() == (family == link.IPv4) && !a.Prefix.Addr().IsLinkLocalUnicast()
	})
}

// leadsOut says whether a table has a default route of somebody else.
func (f hostFacts) leadsOut(family link.Family, table int) bool {
	return slices.ContainsFunc(f.Defaults, func(r link.DefaultRoute) bool {
		return r.Family == family && r.Table == table && r.Protocol != link.ProtocolOwn
	})
}

// undoRouting makes the routing what it was, whatever of the changes was made.
func (e *Engine) undoRouting(r Routing, why error) error {
	err := e.NetNS.Do(func() error {
		if err := r.Add.Remove(); err != nil {
			return err
		}
		return r.Remove.Add()
	})
	if err != nil {
		return fmt.Errorf("%w; and the routing could not be put back: %w", why, err)
	}
	return why
}
