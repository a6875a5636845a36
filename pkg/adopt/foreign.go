package adopt

import (
	"slices"
	"strings"
)

// program is another program that keeps rules of its own on a host, and goes on
// keeping them beside ipmasq.
type program struct {
	name       string
	chains     []string // beginnings of names
	tables     []string // of nftables
	interfaces []string
	comments   []string
	drops      bool // it sets the policy of FORWARD to drop
}

// ours makes its rules of a policy, and needs none made of them.
const ours = "ipmasq"

func programs() []program {
	return []program{
		{name: "Docker", chains: []string{"DOCKER"}, tables: []string{"docker-bridges"}, interfaces: []string{"docker*", "br-*"}, drops: true},
		{name: "libvirt", chains: []string{"LIBVIRT_"}, tables: []string{"libvirt_network"}, interfaces: []string{"virbr*", "vnet*"}},
		{name: "Kubernetes", chains: []string{"KUBE-", "cali-", "CNI-", "FLANNEL-", "CILIUM_", "OLD_CILIUM_"}, tables: []string{"kube-proxy", "cilium"},
			interfaces: []string{"cni*", "cali*", "flannel*", "kube-*", "cilium*", "lxc*"}},
		{name: "Podman", chains: []string{"NETAVARK"}, tables: []string{"netavark"}, interfaces: []string{"podman*"}},
		{name: "Tailscale", chains: []string{"ts-"}, interfaces: []string{"tailscale*"}},
		{name: "fail2ban", chains: []string{"f2b-"}, tables: []string{"f2b-table"}},
		{name: "CrowdSec", chains: []string{"CROWDSEC"}, tables: []string{"crowdsec", "crowdsec6"}},
		{name: "miniupnpd", chains: []string{"MINIUPNPD"}, tables: []string{"miniupnpd"}},
		{name: "LXD", tables: []string{"lxd", "incus"}, interfaces: []string{"lxdbr*", "incusbr*"}, comments: []string{"generated for LXD", "generated for Incus"}},
		{name: ours, chains: []string{"IPMASQ-"}, tables: []string{"ipmasq"}},
	}
}

// leaveForeign takes out what belongs to other programs: their chains, what
// leads there, and what is about their interfaces and networks.
func (m *importer) leaveForeign() {
	known := programs()
	m.present = map[string]bool{}
	first := map[string]origin{}
	found := func(name string, at origin) {
		if !m.present[name] {
			m.present[name], first[name] = true, at
		}
	}
	for _, c := range m.rules.order {
		for _, p := range known {
			byName := slices.ContainsFunc(p.chains, func(prefix string) bool { return strings.HasPrefix(c.name, prefix) })
			if (byName && c.base == nil) || slices.Contains(p.tables, c.table) {
				c.foreign = p.name
				found(p.name, c.at)
			}
		}
		for _, r := range c.rules {
			for _, p := range known {
				if slices.ContainsFunc(p.comments, func(text string) bool { return strings.Contains(r.at.comment, text) }) {
					found(p.name, r.at)
				}
			}
		}
	}
	if len(m.present) == 0 {
		return
	}
	networks := map[string]spans{}
	for _, c := range m.rules.order {
		for _, r := range c.rules {
			if who := m.owner(c, r); who != "" && !r.src.covers(everyAddress().of(4)) && len(r.src.of(4)) == 1 {
				networks[who] = mergeSpans(append(networks[who], r.src.of(4)...))
			}
		}
	}
	for _, c := range m.rules.order {
		c.rules = slices.DeleteFunc(c.rules, func(r *rule) bool {
			who := m.owner(c, r)
			if who == "" && c.base != nil && c.base.nat && r.src.of(6) == nil {
				for name, list := range networks { // hairpins of containers
					if list.covers(r.src) && list.covers(r.dst) {
						who = name
					}
				}
			}
			if who != "" {
				m.leftOut[who]++
			}
			return who != ""
		})
	}
	for _, p := range known {
		if !m.present[p.name] {
			continue
		}
		if p.name == ours {
			m.listed(Note, first[p.name], nil, "these are rules of ipmasq's own (%d here), made of the policy that is in force; they are left out", m.leftOut[p.name])
			continue
		}
		m.listed(Note, first[p.name], nil, "%s keeps rules of its own (%d here); they are left out, since it goes on keeping them beside ipmasq", p.name, m.leftOut[p.name])
	}
}

// owner gives the program that a rule belongs to, or "".
func (m *importer) owner(c *chain, r *rule) string {
	if c.foreign != "" {
		return c.foreign
	}
	if r.do.kind == doJump || r.do.kind == doGoto {
		if to := m.rules.chains[r.do.chain]; to != nil && to.foreign != "" {
			return to.foreign
		}
	}
	for _, p := range programs() {
		if m.present[p.name] && slices.ContainsFunc(p.comments, func(text string) bool { return strings.Contains(r.at.comment, text) }) {
			return p.name
		}
	}
	for _, t := range append(slices.Clone(r.in), r.out...) {
		for _, n := range t.names {
			if who := m.foreignInterface(n.name); who != "" && len(t.names) == 1 {
				return who
			}
		}
	}
	if m.present["Kubernetes"] && strings.HasPrefix(r.at.comment, "kubernetes ") {
		return "Kubernetes"
	}
	return ""
}
