package adopt

import (
	"fmt"
	"slices"
	"strings"
)

// zone is one of the policy: interfaces that nothing tells apart.
type zone struct {
	name    string
	atoms   set256
	mss     string
	spoof   bool
	rest    bool   // all interfaces that no zone names
	route   bool   // where the default route leads
	program string // another one, whose interfaces they are
}

// names shows interfaces.
func (a *atoms) names(s set256) string {
	var out []string
	for _, i := range s.list() {
		if i == a.rest() {
			out = append(out, "other interfaces")
		} else {
			out = append(out, a.patterns[i].String())
		}
	}
	return strings.Join(out, ", ")
}

// texts gives the interfaces as they are written.
func (a *atoms) texts(s set256) []string {
	var out []string
	for _, i := range s.list() {
		if i < a.rest() {
			out = append(out, a.patterns[i].String())
		}
	}
	return out
}

// boxes are all that the policy will say.
func (m *importer) boxes() []box {
	var out []box
	for _, e := range m.policy.entries {
		out = append(out, e.box)
		if !e.hairpinZones.empty() {
			out = append(out, box{b: [sides]set256{byIn: e.hairpinZones, byOut: m.atoms.all()}})
		}
	}
	for _, list := range [][]*rule{m.forward.rules, m.closings, m.in.rules} {
		for _, r := range list {
			out = append(out, r.box)
		}
	}
	return out
}

// zones makes zones of the interfaces.
func (m *importer) zones() {
	ours := m.atoms.ours()
	boxes := m.boxes()
	rest := setOf(m.atoms.rest())
	needed := m.forward.def != doAccept || m.in.def != doAccept
	for i := range boxes {
		x := &boxes[i]
		if i < len(m.policy.entries) || x.b[byIn].has(m.atoms.rest()) || x.b[byOut].has(m.atoms.rest()) && x.b[byOut] != m.atoms.all() {
			needed = needed || x.b[byIn].has(m.atoms.rest()) || x.b[byOut].has(m.atoms.rest()) && x.b[byOut] != m.atoms.all()
		}
	}
	if len(boxes) == 0 && !needed {
		return
	}
	for _, p := range programs() {
		if !m.present[p.name] || len(p.interfaces) == 0 {
			continue
		}
		if p.drops && m.forward.def != doAccept {
			m.listed(Note, origin{}, nil, "%s's policy of FORWARD (drop) stays in the kernel: it also drops what this policy accepts, unless the chain DOCKER-USER accepts it", p.name)
		}
		if m.forward.def == doAccept && m.in.def == doAccept {
			continue
		}
		m.zoneList = append(m.zoneList, &zone{name: fitName(p.name), program: p.name})
		if m.in.def != doAccept {
			m.listed(Error, origin{}, nil, "what comes from interfaces of %s to the gateway itself is decided by `input`, whatever %s accepts", p.name, p.name)
		}
	}
	for _, size := range m.clampAll {
		on := m.uplinks
		if on.empty() {
			on = ours.minus(rest)
		}
		for _, a := range on.list() {
			if m.mss[a] == "" {
				m.mss[a] = size
			}
		}
		if on != ours.minus(rest) {
			m.listed(Note, origin{}, nil, "segment sizes are lowered for what goes through the uplinks, and not between other zones")
		}
	}
	signature := map[string]int{}
	for _, a := range ours.list() {
		if a == m.atoms.rest() && !needed {
			continue
		}
		var s strings.Builder
		for _, x := range boxes {
			fmt.Fprint(&s, x.b[byIn].has(a), x.b[byOut].has(a), " ")
		}
		fmt.Fprint(&s, m.mss[a], m.antispoof.has(a), a == m.atoms.rest())
		if i, ok := signature[s.String()]; ok {
			m.zoneList[i].atoms.add(a)
			continue
		}
		signature[s.String()] = len(m.zoneList)
		m.zoneList = append(m.zoneList, &zone{atoms: setOf(a), mss: m.mss[a], spoof: m.antispoof.has(a) && a != m.atoms.rest(), rest: a == m.atoms.rest()})
	}
	if m.defaultRoute {
		m.zoneList = append(m.zoneList, &zone{name: "wan", route: true})
	}
	m.nameZones()
}

// nameZones gives zones the names that people give them.
func (m *importer) nameZones() {
	taken := map[string]bool{"any": true, "gateway": true, "wan": m.defaultRoute}
	count := func(uplink bool) int {
		n := 0
		for _, z := range m.zoneList {
			if !z.rest && !z.route && z.program == "" && z.atoms.and(m.uplinks).empty() != uplink {
				n++
			}
		}
		return n
	}
	up, in := count(true), count(false)
	for _, z := range m.zoneList {
		switch {
		case z.route, z.program != "":
			taken[z.name] = true
			continue
		case z.rest:
			z.name = "others"
			if in == 0 {
				z.name = "inside"
			}
		case !z.atoms.and(m.uplinks).empty() && up == 1 && !taken["wan"]:
			z.name = "wan"
		case z.atoms.and(m.uplinks).empty() && in == 1 && len(m.uplinks.list()) > 0 && !tunnel(m.atoms.patterns[z.atoms.list()[0]].name):
			z.name = "lan"
		default:
			z.name = fitName(m.atoms.patterns[z.atoms.list()[0]].name)
		}
		for base, n := z.name, 2; taken[z.name]; n++ {
			z.name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[z.name] = true
	}
}

// tunnel says whether an interface is that of a VPN, which nobody calls his lan.
func tunnel(name string) bool {
	return slices.ContainsFunc([]string{"tun", "tap", "wg", "ipsec", "vti", "ppp", "xfrm"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// fitName makes a name of the language of any text.
func fitName(text string) string {
	var out []byte
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
		default:
			c = '-'
		}
		if c != '-' || len(out) > 0 && out[len(out)-1] != '-' {
			out = append(out, c)
		}
	}
	if len(out) > 40 {
		out = out[:40]
	}
	name := strings.Trim(string(out), "-")
	if name == "" {
		name = "entry"
	}
	return name
}

// zoneNames gives the zones of a side as the policy has them: nil is all.
func (m *importer) zoneNames(s set256, whole bool) []string {
	var out []string
	all := true
	for _, z := range m.zoneList {
		switch {
		case z.route:
		case z.program != "":
			if !m.atoms.ours().minus(s).empty() {
				all = false
			} else if !whole {
				continue
			}
		case z.atoms.minus(s).empty():
			out = append(out, z.name)
		default:
			all = false
		}
	}
	if all && whole {
		return nil
	}
	return out
}
