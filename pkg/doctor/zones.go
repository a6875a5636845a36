package doctor

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// sysctl is a setting as evidence.
func (h *Host) sysctl(name string) string {
	text := fmt.Sprintf("sysctl %s is %s", dotted(name), h.Sysctls[name])
	if c := h.setAtBoot(name); c != nil {
		text += ", as " + c.place + " sets it"
	}
	return text
}

// dotted is the name of a sysctl as people write it. Where a link has a dot in
// its name, sysctl(8) takes the slashes.
func dotted(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return strings.ReplaceAll(name, "/", ".")
}

// applyAgain is the command that puts the policy in force again, or another
// where its files are not there to be named, or say something else now.
func (h *Host) applyAgain(otherwise ...string) []string {
	for _, f := range h.Files {
		if _, err := os.Stat(f); !filepath.IsAbs(f) || err != nil {
			return otherwise
		}
	}
	other := Finding{Mend: otherwise}
	switch d := h.State.Daemon; {
	case len(h.Files) == 0 || len(h.State.Changed) > 0 && len(other.Commands()) > 0:
		return otherwise
	case d != nil && d.Owns: // nobody else may change its rules
		return []string{fmt.Sprintf("kill -HUP %d", d.PID)}
	}
	return []string{"ipmasq apply " + strings.Join(quoted(h.Files), " ")}
}

// uplinkZones are the zones that flows are translated to.
func (h *Host) uplinkZones() (out []*policy.Zone) {
	if h.Policy == nil {
		return nil
	}
	add := func(refs ...policy.ZoneRef) {
		for _, r := range refs {
			if z := h.Policy.Zone(r.Name); z != nil && !slices.Contains(out, z) {
				out = append(out, z)
			}
		}
	}
	for i := range h.Policy.OneToOne {
		add(h.Policy.OneToOne[i].Zone)
	}
	for i := range h.Policy.SNAT {
		add(h.Policy.SNAT[i].To...)
	}
	for i := range h.Policy.Masquerade {
		add(h.Policy.Masquerade[i].To...)
	}
	return out
}

// insideZones are the others.
func (h *Host) insideZones() (out []*policy.Zone) {
	if h.Policy == nil {
		return nil
	}
	uplinks := h.uplinkZones()
	for i := range h.Policy.Zones {
		if z := &h.Policy.Zones[i]; !slices.Contains(uplinks, z) {
			out = append(out, z)
		}
	}
	return out
}

// linksOf are the links that a zone's interfaces match.
func (h *Host) linksOf(z *policy.Zone) (out []link.Link) {
	for _, l := range h.facts().Links {
		if slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) }) {
			out = append(out, l)
		}
	}
	return out
}

// linksOfAll are the links of several zones, each once.
func (h *Host) linksOfAll(zones []*policy.Zone) (out []link.Link) {
	for _, l := range h.facts().Links {
		if slices.ContainsFunc(zones, func(z *policy.Zone) bool {
			return slices.ContainsFunc(z.Interfaces, func(i policy.Interface) bool { return i.Matches(l.Name) })
		}) {
			out = append(out, l)
		}
	}
	return out
}

// zoneLinks are the links of all zones.
func (h *Host) zoneLinks() []link.Link {
	return h.linksOfAll(append(h.uplinkZones(), h.insideZones()...))
}

func (h *Host) uplinkLinks() []link.Link { return h.linksOfAll(h.uplinkZones()) }

// ports are the links that belong to a bridge.
func (h *Host) ports(bridge string) (out []string) {
	for _, l := range h.facts().Links {
		if l.Master == bridge {
			out = append(out, l.Name)
		}
	}
	return out
}

// networks are the networks of a family that a zone names, those of sets too.
func (h *Host) networks(z *policy.Zone, f link.Family) (out []policy.Address) {
	for _, a := range h.Policy.NetworksOf(z) {
		if a.Low.IsValid() && a.Low.Is4() == (f == link.IPv4) {
			out = append(out, a)
		}
	}
	return out
}

// joined names addresses, the first few.
func joined(list []policy.Address) string {
	const shown = 4
	var names []string
	for _, a := range list[:min(shown, len(list))] {
		names = append(names, a.String())
	}
	if n := len(list) - shown; n > 0 {
		names = append(names, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, ", ")
}

// global are the addresses of a link that are of a family and lead beyond it.
func global(l link.Link, f link.Family) (out []link.Address) {
	for _, a := range l.Addresses {
		if ip := a.Prefix.Addr(); ip.Is4() == (f == link.IPv4) && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			out = append(out, a)
		}
	}
	return out
}

// speaks says whether hosts of a zone have addresses of a family: the gateway
// has some there, and the zone is not for the other family alone.
func (h *Host) speaks(z *policy.Zone, f link.Family) bool {
	if len(z.Networks) > 0 && len(h.networks(z, f)) == 0 {
		return false
	}
	return slices.ContainsFunc(h.linksOf(z), func(l link.Link) bool { return len(global(l, f)) > 0 })
}

// needsUplink says whether some zone inside has to get out by a family.
func (h *Host) needsUplink(f link.Family) bool {
	return h.forwards(f) && slices.ContainsFunc(h.insideZones(), func(z *policy.Zone) bool { return h.speaks(z, f) })
}

// matches says whether any link is what a zone's interface names.
func (h *Host) matches(i policy.Interface) bool {
	return slices.ContainsFunc(h.facts().Links, func(l link.Link) bool { return i.Matches(l.Name) })
}

// linkNames is the list of links as evidence.
func (h *Host) linkNames() string {
	var names []string
	for _, l := range h.facts().Links {
		if l.Name != "lo" {
			names = append(names, l.Name)
		}
	}
	return "links of the host: " + strings.Join(names, ", ")
}

// rename says what to do about an interface that is not there. The link that was
// probably meant is one that no zone has: the one with the default route, of an
// uplink, or one whose name is near.
func (h *Host) rename(i policy.Interface, uplink bool) []string {
	var free []string
	for _, l := range h.facts().Links {
		taken := slices.ContainsFunc(h.zoneLinks(), func(o link.Link) bool { return o.Name == l.Name })
		if l.Name == "lo" || l.Master != "" || taken {
			continue
		}
		free = append(free, l.Name)
	}
	if len(free) == 0 {
		return []string{"# make the link " + i.String()}
	}
	for _, name := range h.facts().DefaultInterfaces() {
		if uplink && slices.Contains(free, name) {
			return []string{fmt.Sprintf("# did you mean %s, which has the default route? write it at %s, and apply", name, i.Place)}
		}
	}
	if name := policy.NearestLink(i.Name, free); name != "" && !i.Wildcard {
		return []string{fmt.Sprintf("# did you mean %s? write it at %s, and apply", name, i.Place)}
	}
	return []string{fmt.Sprintf("# make the link, or write the right name at %s, and apply; links that no zone has: %s", i.Place, strings.Join(free, ", "))}
}

// network is the prefix of a link's own address.
func network(a link.Address) netip.Prefix { return a.Prefix.Masked() }
