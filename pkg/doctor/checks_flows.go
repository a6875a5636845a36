package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// flowChecks are about flows, targets and what conntrack counts.
var flowChecks = []check{
	{"gateway-silent", gatewaySilent},
	{"target-unrouted", targetUnrouted},
	{"target-silent", targetSilent},
	{"neighbour-fixed", neighborFixed},
	{"target-answers-elsewhere", targetElsewhere},
	{"target-refuses", targetRefuses},
	{"hairpin", hairpin},
	{"uplink-silent", uplinkSilent},
	{"flows-untranslated", untranslated},
	{"flows-stale", stale},
	{"helper-missing", helperMissing},
	{"pmtu-blocked", pmtuBlocked},
	{"leaks-stopped", leaksStopped},
}

// forwardsPort says whether a port forward is for a port.
func forwardsPort(f *policy.PortForward, protocol uint8, port uint16) bool {
	if f.Map != nil {
		return slices.ContainsFunc(f.Map.Lines, func(l policy.MapLine) bool {
			return l.Protocol == protocol && l.First <= port && port <= l.Last
		})
	}
	within := func(p policy.Ports) bool { return p.First <= port && port <= p.Last }
	return slices.ContainsFunc(f.Protocols, func(p policy.Protocol) bool { return p.Number == protocol }) &&
		(f.AllPorts || slices.ContainsFunc(f.Ports, within)) && !slices.ContainsFunc(f.ExceptPorts, within)
}

// fromZone says whether a port forward is for what comes from a zone.
func fromZone(f *policy.PortForward, zone string) bool {
	return len(f.From) == 0 || slices.ContainsFunc(f.From, func(r policy.ZoneRef) bool { return r.Any || r.Name == zone })
}

// ofUplink says whether an address is one that a port forward is for: of a link
// that it comes in by.
func (h *Host) ofUplink(a netip.Addr, f *policy.PortForward) bool {
	if len(f.Address) > 0 || f.AnyAddress {
		return slices.ContainsFunc(f.Address, func(x policy.Address) bool {
			return x.Low.IsValid() && x.Low.Compare(a) <= 0 && a.Compare(x.High) <= 0
		})
	}
	for _, ref := range f.From {
		z := h.Policy.Zone(ref.Name)
		if z == nil {
			continue
		}
		for _, l := range h.linksOf(z) {
			if slices.ContainsFunc(l.Addresses, func(own link.Address) bool { return own.Prefix.Addr() == a }) {
				return true
			}
		}
	}
	return false
}

// kill is the command that removes one flow.
func kill(s *Seen) string {
	words := []string{"ipmasq connections kill --yes --protocol", policy.ProtocolName(s.Protocol), "--source", s.Original.Source.String(), "--destination", s.Original.Destination.String()}
	if s.Original.SourcePort != 0 {
		words = append(words, "--source-port", strconv.Itoa(int(s.Original.SourcePort)), "--destination-port", strconv.Itoa(int(s.Original.DestinationPort)))
	}
	return strings.Join(words, " ")
}

// mostKilled is for how many flows a command each is given.
const mostKilled = 16

// killed has flows removed: their next packets begin new ones.
func killed(list []*Seen) (out []string) {
	for _, s := range list[:min(len(list), mostKilled)] {
		out = append(out, kill(s))
	}
	if len(list) > mostKilled {
		out = append(out, fmt.Sprintf("# and %d more: ipmasq connections kill, with a filter that fits them", len(list)-mostKilled))
	}
	return out
}

// open says that a flow still carries something, so far as conntrack knows.
func open(s *Seen) bool {
	return s.Protocol != conntrack.ProtocolTCP || s.State == conntrack.TCPEstablished || s.State == conntrack.TCPSynSent || s.State == conntrack.TCPSynRecv
}

// untranslated is about flows that leave as they are, and that the policy would
// translate: they began before the rules were there.
func untranslated(h *Host) []Finding {
	var list []*Seen
	for i := range h.Flows.Seen {
		if s := &h.Flows.Seen[i]; !s.Fits && s.Untranslated() && open(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	var seen []string
	for _, s := range list {
		seen = append(seen, fmt.Sprintf("conntrack: %s is not translated, and %s (%s) would do it", s, s.Wants.Entry, s.Wants.Place))
	}
	return []Finding{{
		Severity: Broken, Weight: 650,
		Title:    fmt.Sprintf("%s not translated: conntrack asks the rules for the first packet alone, and that was before they were there", counted(len(list), "open flow is", "open flows are")),
		Evidence: shortened(seen, 6), Mend: killed(list),
	}}
}

// stale is about flows that go on though the policy would have none of them, or
// would lead them elsewhere.
func stale(h *Host) []Finding {
	var list []*Seen
	for i := range h.Flows.Seen {
		if s := &h.Flows.Seen[i]; !s.Fits && !s.Untranslated() && open(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	var seen []string
	for _, s := range list {
		seen = append(seen, strings.TrimSpace(fmt.Sprintf("conntrack: %s %s, by %s %s", s, s.Why, s.Wants.Entry, s.Wants.Place)))
	}
	return []Finding{{
		Severity: Risk, Weight: 510,
		Title:    fmt.Sprintf("%s what the policy says now", counted(len(list), "open flow is not", "open flows are not")),
		Evidence: shortened(seen, 6), Mend: killed(list),
	}}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// answeredPorts are those of UDP that whoever sends there wants an answer from.
var answeredPorts = []uint16{53, 123, 443}

// uplinkSilent is about an uplink by which nothing comes back.
func uplinkSilent(h *Host) []Finding {
	if h.fixedHop() != nil {
		return nil // that may be the reason
	}
	return h.silent()
}

func (h *Host) silent() (out []Finding) {
	type found struct {
		flows        []string
		destinations map[netip.Addr]bool
		answered     bool
		entry        string
	}
	byAddress := map[netip.Addr]*found{}
	var order []netip.Addr
	for i := range h.Flows.Seen {
		s := &h.Flows.Seen[i]
		if !s.SNAT() || s.DNAT() || !s.Ours {
			continue
		}
		a := s.Reply.Destination
		x := byAddress[a]
		if x == nil {
			x = &found{destinations: map[netip.Addr]bool{}}
			byAddress[a] = x
			order = append(order, a)
		}
		if s.Status&conntrack.StatusSeenReply != 0 {
			x.answered = true
		} else if s.waits() || s.Protocol == conntrack.ProtocolUDP && slices.Contains(answeredPorts, s.Original.DestinationPort) {
			x.flows, x.entry = append(x.flows, "conntrack: "+s.String()+" [UNREPLIED]"), s.Origin.Entry
			x.destinations[s.Original.Destination] = true
		}
	}
	const enough = 3
	for _, a := range order {
		x := byAddress[a]
		if x.answered || len(x.flows) < enough || len(x.destinations) < 2 {
			continue
		}
		out = append(out, Finding{
			Severity: Broken, Weight: 715,
			Title:    fmt.Sprintf("nothing that %s sends from %s is answered, wherever it goes", x.entry, a),
			Evidence: shortened(x.flows, 5),
			Mend: []string{fmt.Sprintf("# see whether the gateway itself gets answers (ping -I %s), and whether the provider routes %s to this host", a, a),
				"# behind a provider's router that filters sources, take the address that it gave"},
		})
	}
	return out
}

// protocols that name further connections within, by the port of the first.
var needHelpers = []struct {
	protocol uint8
	port     uint16
	helper   string // as a policy names it
	severity Severity
	what     string
}{
	{conntrack.ProtocolTCP, 21, "ftp", Risk, "active FTP gets no data; passive FTP to a server inside neither"},
	{conntrack.ProtocolUDP, 69, "tftp", Risk, "TFTP answers from another port, and so gets nowhere"},
	{conntrack.ProtocolTCP, 1723, "pptp", Risk, "PPTP's GRE is let pass for one client at a time, or for none"},
	{conntrack.ProtocolTCP, 6667, "irc", Note, "IRC's direct connections (DCC) do not come in"},
	{conntrack.ProtocolUDP, 5060, "sip", Note, "SIP may be heard one way only, where the phones do not help themselves (STUN)"},
}

// helperMissing is about flows that need a helper and have none.
func helperMissing(h *Host) (out []Finding) {
	for _, n := range needHelpers {
		var list []*Seen
		for i := range h.Flows.Seen {
			s := &h.Flows.Seen[i]
			answered := s.Status&conntrack.StatusSeenReply != 0 || n.protocol == conntrack.ProtocolUDP
			if s.Protocol == n.protocol && s.Original.DestinationPort == n.port && s.Helper == "" && s.Ours && answered && (s.SNAT() || s.DNAT()) && open(s) {
				list = append(list, s)
			}
		}
		if len(list) == 0 {
			continue
		}
		s := list[0]
		f := Finding{
			Severity: n.severity, Weight: 520,
			Title: fmt.Sprintf("%s without its helper: %s", counted(len(list), n.helper+" connection is translated", n.helper+" connections are translated"), n.what),
		}
		for _, s := range list {
			f.Evidence = append(f.Evidence, fmt.Sprintf("conntrack: %s has no helper, and goes by %s (%s)", s, s.Origin.Entry, s.Origin.Place))
		}
		f.Evidence = shortened(f.Evidence, 4)
		if h.hasHelper(s.Origin.Entry, n.helper) {
			f.Title = fmt.Sprintf("%s older than the helper that its entry has", counted(len(list), n.helper+" connection is", n.helper+" connections are"))
			f.Mend = killed(list)
		} else {
			f.Mend = []string{fmt.Sprintf("# write helpers: [%s] in %s at %s, and apply; connections that are open go on without", n.helper, s.Origin.Entry, s.Origin.Place)}
		}
		out = append(out, f)
	}
	return out
}

// hasHelper says whether an entry of the policy names a helper.
func (h *Host) hasHelper(entry, helper string) bool {
	named := func(section, name string, list []policy.Helper) bool {
		return section+" "+name == entry && slices.ContainsFunc(list, func(x policy.Helper) bool { return x.Name == helper })
	}
	p := h.Policy
	return slices.ContainsFunc(p.Masquerade, func(m policy.Masquerade) bool { return named("masquerade", m.Name, m.Helpers) }) ||
		slices.ContainsFunc(p.SNAT, func(m policy.SNAT) bool { return named("snat", m.Name, m.Helpers) }) ||
		slices.ContainsFunc(p.PortForward, func(f policy.PortForward) bool { return named("port_forward", f.Name, f.Helpers) })
}

// leaksStopped tells what the guard has stopped.
func leaksStopped(h *Host) []Finding {
	if h.Status == nil || h.Given {
		return nil
	}
	f := Finding{
		Severity: Note, Weight: 200,
		Title: "packets were stopped that would have left untranslated",
		Mend:  []string{"# mostly harmless: the ends of connections that conntrack has forgotten already. Where it grows fast, ipmasq connections list --state unreplied shows what hosts try"},
	}
	for i := range h.Status.Entries {
		if e := &h.Status.Entries[i]; e.LeaksStopped > 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("leak guard: %s of %s %s", counted(int(e.LeaksStopped), "packet", "packets"), e.Section, e.Name))
		}
	}
	if len(f.Evidence) == 0 {
		return nil
	}
	return []Finding{f}
}
