package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/foreign"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

// program is who made a chain, as far as its names tell; "" is somebody.
type program string

// The programs whose own commands can let something pass.
const (
	docker    program = "Docker"
	ufw       program = "ufw"
	firewalld program = "firewalld"
	libvirt   program = "libvirt"
	kube      program = "Kubernetes"
)

func programOf(c *foreign.Chain) program {
	t := c.Table()
	has := func(what func(string) bool) bool {
		return slices.ContainsFunc(t.Chains, func(c *foreign.Chain) bool { return what(c.Name) })
	}
	begins := func(prefix string) func(string) bool {
		return func(name string) bool { return strings.HasPrefix(name, prefix) }
	}
	switch {
	case t.Chain("DOCKER-USER") != nil || t.Chain("DOCKER") != nil || t.Chain("DOCKER-FORWARD") != nil || strings.HasPrefix(t.Name, "docker-"):
		return docker
	case t.Name == "firewalld" || has(begins("FWD_")) || t.Chain("FORWARD_direct") != nil:
		return firewalld
	case has(begins("ufw-")) || has(begins("ufw6-")):
		return ufw
	case strings.HasPrefix(t.Name, "libvirt") || has(begins("LIBVIRT_")):
		return libvirt
	case has(begins("KUBE-")) || t.Name == "kube-proxy":
		return kube
	}
	return ""
}

// chain names a chain with who made it.
func (p program) chain(c *foreign.Chain) string {
	kind := ""
	if c.Table().Kind != foreign.NFT {
		kind = fmt.Sprintf(" (%s)", c.Table().Kind)
	}
	if p == "" {
		return fmt.Sprintf("the chain %s%s", c, kind)
	}
	return fmt.Sprintf("%s's chain %s%s", p, c, kind)
}

// mend has the program let pass what it stops.
func (p program) mend(h *Host, stops []stop) (out []string) {
	add := func(line string) {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	for i := range stops {
		s := &stops[i]
		packet := s.seenBy(s.chain, s.answer)
		switch {
		case s.first():
			for _, line := range h.toTheFront(s.chain) {
				add(line)
			}
		case p == firewalld:
			for _, line := range []string{
				"firewall-cmd --permanent --new-policy=ipmasq --set-target=ACCEPT",
				"firewall-cmd --permanent --policy=ipmasq --add-ingress-zone=ANY --add-egress-zone=ANY",
				"firewall-cmd --reload",
				"# what may pass is then for ipmasq's policy alone to say",
			} {
				add(line)
			}
			if s.hook == foreign.Input {
				add("# for the gateway's own ports: firewall-cmd --permanent --zone=ZONE --add-port=PORT/PROTOCOL")
			}
		case p == ufw && s.hook == foreign.Forward:
			if !s.answer { // ufw lets answers pass by itself
				add(fmt.Sprintf("ufw route allow in on %s out on %s", packet.In, packet.Out))
			}
		case p == ufw && s.hook == foreign.Input:
			add(fmt.Sprintf("ufw allow in on %s to any port %d proto %s", packet.In, packet.DestinationPort, protocolName(packet.Protocol)))
		default:
			add(p.insert(s, packet))
		}
	}
	if len(out) > 0 && (p == "" || p == libvirt || p == kube) {
		out = append(out, "# and have whoever makes these rules make that one too: they are gone when it starts anew")
	}
	if p == docker && slices.ContainsFunc(stops, func(s stop) bool { return s.hook == foreign.Forward }) {
		return dockerMend(h, stops, out)
	}
	return out
}

// dockerMend is what is to be done about Docker's chains of forward: commands that
// mend it until the machine starts anew, and what does so for good.
func dockerMend(h *Host, stops []stop, commands []string) []string {
	own := slices.ContainsFunc(stops, func(s stop) bool { return s.chain.Table().Kind == foreign.NFT })
	bypass := "# have dockerd started with --bridge-accept-fwmark=0x10000000/0x10000000: its own nftables rules know what may pass by that mark"
	switch {
	case h.Policy != nil && h.Policy.Gateway.Docker && own:
		return append(commands, bypass, "# ipmasq reads the mark from these rules, and sets it: apply the policy again then")
	case h.Policy != nil && h.Policy.Gateway.Docker:
		return append(h.applyAgain("# ipmasq apply, with the policy's files"), "# ipmasq run does that by itself when Docker starts")
	case own:
		commands = append(commands, bypass)
	}
	return append(commands, "# these are gone when the machine starts anew; for good: write `gateway: {docker: accept}` into the policy, and apply it")
}

// insert is the command that puts a rule in front which lets a packet pass.
func (p program) insert(s *stop, packet *foreign.Packet) string {
	t := s.chain.Table()
	if t.Kind == foreign.NFT {
		var words []string
		if packet.In != "" {
			words = append(words, fmt.Sprintf("iifname %q", packet.In))
		}
		if packet.Out != "" {
			words = append(words, fmt.Sprintf("oifname %q", packet.Out))
		}
		match := strings.Join(words, " ")
		match += serviceNFT(s, packet)
		if s.answer && s.hook == foreign.Forward { // conntrack is not asked at a link
			match += " ct state established,related"
		}
		return fmt.Sprintf("nft 'insert rule %s %s %s accept'", t.Family+" "+t.Name, s.chain.Name, match)
	}
	command := xtCommand(t)
	if t.Name != "filter" {
		command += " -t " + t.Name
	}
	chain := s.chain.Name
	if s.hook == foreign.Forward && t.Chain("DOCKER-USER") != nil {
		chain = "DOCKER-USER"
	}
	at := ""
	if to := t.Chain(chain); to != nil {
		at = behindOurs(to)
	}
	match := "-i " + packet.In
	if packet.Out != "" {
		match += " -o " + packet.Out
	}
	if s.hook == foreign.Postrouting { // there is no -i there
		match = "-o " + packet.Out
	}
	match += serviceXT(s, packet)
	if s.answer {
		match += " -m conntrack --ctstate RELATED,ESTABLISHED"
	}
	return fmt.Sprintf("%s -I %s%s %s -j ACCEPT", command, chain, at, match)
}

// behindOurs is the place for a rule in a chain that leads to ours: what does has to
// stay first.
func behindOurs(c *foreign.Chain) string {
	if n := c.Behind(); n > 1 {
		return fmt.Sprintf(" %d", n)
	}
	return ""
}

// narrow says that the rule is to be for one port alone: it is the gateway's own,
// or comes from outside to a host inside.
func (s *stop) narrow(p *foreign.Packet) bool {
	return !s.answer && p.DestinationPort != 0 && (s.hook == foreign.Input || strings.HasPrefix(s.entry, "port_forward "))
}

func serviceNFT(s *stop, p *foreign.Packet) string {
	if !s.narrow(p) {
		return ""
	}
	return fmt.Sprintf(" %s dport %d", protocolName(p.Protocol), p.DestinationPort)
}

func serviceXT(s *stop, p *foreign.Packet) string {
	if !s.narrow(p) {
		return ""
	}
	return fmt.Sprintf(" -p %s --dport %d", protocolName(p.Protocol), p.DestinationPort)
}

// mendNAT is what to do about a translation of others that comes first.
func (h *Host) mendNAT(c *foreign.Chain, d *foreign.Decision, x *passage) []string {
	switch p := programOf(c); p {
	case docker:
		to := ""
		if d.Rule.To != "" {
			to = " at " + d.Rule.To
		}
		return []string{"# have it for one of the two: publish the container" + to + " at another port (docker run -p), or take it out of the policy"}
	case kube, libvirt, firewalld:
		return []string{fmt.Sprintf("# have it for one of the two: take it out of the policy, or out of %s, which makes its rules again", p)}
	}
	if ledFirst(x, c) != "" {
		return h.toTheFront(c)
	}
	return []string{"# or take it out of the policy, if that rule is meant:", removal(c, d)}
}

// xtCommand is the program of iptables that works on a table.
func xtCommand(t *foreign.Table) string {
	if t.Family == "ip6" {
		return "ip6tables" + strings.TrimPrefix(string(t.Kind), "iptables")
	}
	return string(t.Kind)
}

// removal is the command that takes a rule of others away.
func removal(c *foreign.Chain, d *foreign.Decision) string {
	t := c.Table()
	if t.Kind == foreign.NFT {
		return fmt.Sprintf("nft delete rule %s %s %s handle %d", t.Family, t.Name, d.Chain.Name, d.Rule.Handle)
	}
	n := 1 + slices.IndexFunc(d.Chain.Rules, func(r foreign.Rule) bool { return r.String() == d.Rule.String() })
	return fmt.Sprintf("%s -t %s -D %s %d", xtCommand(t), t.Name, d.Chain.Name, n)
}

func protocolName(number uint8) string { return policy.ProtocolName(number) }

// portText is an address with a port, or without where there is none.
func portText(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
