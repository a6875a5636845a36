package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// strictFilter is about uplinks where the kernel drops what comes in from
// addresses that it would send elsewhere.
func strictFilter(h *Host) (out []Finding) {
	const all = "net/ipv4/conf/all/rp_filter"
	links := slices.DeleteFunc(h.linksOfAll(h.outward()), func(l link.Link) bool { return !ready(l, link.IPv4) })
	routes := h.defaults(link.IPv4)
	if len(links) < 2 || len(routes) == 0 {
		return nil
	}
	for _, l := range links {
		key := "net/ipv4/conf/" + l.Name + "/rp_filter"
		// The larger one counts; 1 is strict.
		if max(h.Sysctls[all], h.Sysctls[key]) != "1" || slices.ContainsFunc(routes, func(r link.DefaultRoute) bool {
			return r.Interface == l.Name && r.Metric == routes[0].Metric
		}) {
			continue
		}
		f := Finding{
			Severity: Broken, Weight: 730,
			Title: fmt.Sprintf("the kernel drops what the Internet sends to %s, since the way back leads by %s", l.Name, routes[0].Interface),
			Evidence: []string{h.sysctl(all), h.sysctl(key),
				fmt.Sprintf("route: default%s dev %s metric %d", via(routes[0].Gateway), routes[0].Interface, routes[0].Metric)},
			Mend: []string{"sysctl -w " + dotted(key) + "=2", "# to keep it, write it into a file of /etc/sysctl.d; answers leave by " + routes[0].Interface + " unless the zone is symmetric: write symmetric: true in it"},
		}
		if slices.ContainsFunc(h.outward(), func(z *policy.Zone) bool {
			return z.Symmetric != nil && slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) })
		}) {
			if h.Given {
				continue // apply loosens it
			}
			f.Mend = h.applyAgain(f.Mend[0])
		}
		if !h.entered(l) {
			// It waits until the other uplink fails, and the default route moves here.
			f.Severity, f.Weight = Note, 60
		}
		if n := h.Kernel.ReversePath; n > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("counter IPReversePathFilter is %d (nstat -az TcpExtIPReversePathFilter)", n))
		}
		out = append(out, f)
	}
	return out
}

// entered says whether somebody outside is to come in by an uplink.
func (h *Host) entered(l link.Link) bool {
	for i := range h.Policy.Zones {
		z := &h.Policy.Zones[i]
		if !slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) }) {
			continue
		}
		from := func(refs []policy.ZoneRef) bool {
			return slices.ContainsFunc(refs, func(r policy.ZoneRef) bool { return r.Any || r.Name == z.Name })
		}
		if z.Symmetric != nil ||
			slices.ContainsFunc(h.Policy.PortForward, func(f policy.PortForward) bool { return from(f.From) }) ||
			slices.ContainsFunc(h.Policy.OneToOne, func(o policy.OneToOne) bool { return o.Zone.Name == z.Name }) ||
			slices.ContainsFunc(h.Policy.Forward.Rules, func(r policy.Rule) bool { return r.Action == policy.Accept && from(r.From) }) {
			return true
		}
	}
	return false
}

// routingDrift is about the routes and rules of symmetric zones.
func routingDrift(h *Host) (out []Finding) {
	if h.Given || h.Status == nil {
		return nil
	}
	if err := h.Status.RoutingProblem; err != nil {
		out = append(out, Finding{
			Severity: Broken, Weight: 720,
			Title:    "the answers of a symmetric zone have no way of their own",
			Evidence: strings.Split("route: "+err.Error(), "\n"),
			Mend:     []string{"# write its router into the policy, symmetric: {gateway: ROUTER}, and apply"},
		})
	}
	if r := h.Status.RoutingDrift; !r.Empty() {
		f := Finding{
			Severity: Broken, Weight: 725,
			Title: "the routes and rules by which symmetric zones answer are not as they were applied",
			Mend:  h.applyAgain("# apply the policy again"),
		}
		for _, line := range r.Add.Lines() {
			f.Evidence = append(f.Evidence, "missing: "+line)
		}
		for _, line := range r.Remove.Lines() {
			f.Evidence = append(f.Evidence, "surplus: "+line)
		}
		out = append(out, f)
	}
	return out
}
