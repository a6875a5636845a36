package adopt

import (
	"slices"
	"strconv"
	"strings"
)

// draft is the policy before it is text.
type draft struct {
	zones, gateway []string // lines
	sets           []namedSet
	entries        []*entry
	rules, input   section
}

// section is forward or input.
type section struct {
	present bool
	def     string
	defAt   []origin
	entries []*entry
}

// namedSet is a list that is too long to stand in an entry.
type namedSet struct {
	name string
	list spans
}

// entry is one entry of the policy.
type entry struct {
	box
	section string
	name    string
	fields  []field // what is known of its keys
	at      []origin
	drops   bool // a rule that does not accept
	line    int  // in the text
	note    string

	toDefault               bool // to where the default route leads
	targets                 []span
	targetPorts             ports
	outside, inside         span
	hairpinZones            set256
	hairpinOutside          bool
	gatewayOnly, notGateway bool
	badTypes                bool // ICMP types without a name
	oneSide                 bool // a one_to_one that only its uplink reaches
}

type field struct{ key, value string }

func (e *entry) add(key, value string) { e.fields = append(e.fields, field{key, value}) }

func (e *entry) addList(key string, list []string) {
	if len(list) > 0 {
		e.add(key, listText(list))
	}
}

func (e *entry) has(key string) bool {
	return slices.ContainsFunc(e.fields, func(f field) bool { return f.key == key })
}

func (d *draft) add(e *entry) { d.entries = append(d.entries, e) }

func listText(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// quoteAddress quotes what YAML could read otherwise.
func quoteAddress(text string) string {
	if strings.ContainsAny(text, ":[]@*") {
		return `"` + text + `"`
	}
	return text
}

func quoteWord(text string) string {
	for i := range len(text) {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_')) {
			return strconv.Quote(text)
		}
	}
	switch strings.ToLower(text) {
	case "", "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return strconv.Quote(text)
	}
	return text
}

func portText(x span16) string {
	lo := max(x.lo, 1)
	if lo == x.hi {
		return strconv.Itoa(int(lo))
	}
	return strconv.Itoa(int(lo)) + "-" + strconv.Itoa(int(x.hi))
}

func portList(p ports) []string {
	var out []string
	for _, x := range p {
		if x.hi > 0 {
			out = append(out, portText(x))
		}
	}
	return out
}

func protocolName(n int) string {
	names := map[int]string{1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 132: "sctp", 136: "udplite"}
	if name, ok := names[n]; ok {
		return name
	}
	return strconv.Itoa(n)
}

// icmpNames gives the names that a policy has for types of a family.
func icmpNames(types set256, family int) ([]string, bool) {
	names := map[int]string{3: "destination-unreachable", 11: "time-exceeded", 12: "parameter-problem", 8: "echo-request", 0: "echo-reply", 5: "redirect", 9: "router-advertisement",
		10: "router-solicitation", 4: "source-quench", 13: "timestamp-request", 14: "timestamp-reply", 15: "info-request", 16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply"}
	if family == 6 {
		names = map[int]string{1: "destination-unreachable", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request", 129: "echo-reply", 137: "redirect", 134: "router-advertisement",
			133: "router-solicitation", 2: "packet-too-big", 130: "mld-listener-query", 131: "mld-listener-report", 132: "mld-listener-done", 135: "nd-neighbor-solicit",
			136: "nd-neighbor-advert", 138: "router-renumbering", 141: "ind-neighbor-solicit", 142: "ind-neighbor-advert", 143: "mld2-listener-report"}
	}
	var out []string
	for _, n := range types.list() {
		name, ok := names[n]
		if !ok {
			return nil, false
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out, len(out) < 20
}

// addresses gives the keys for one side of a box: what is named, or what is
// excepted, whichever is shorter. It says whether the families are told by it.
func (m *importer) addresses(e *entry, key, except string, list spans, extra []string) (told bool) {
	// No packet carries an IPv4 address in IPv6 clothes, and the language says so.
	list = slices.DeleteFunc(slices.Clone(list), func(x span) bool { return x.lo.Is4In6() && x.hi.Is4In6() })
	var whole spans
	for _, f := range e.b[byFamily].list() {
		whole = append(whole, everyAddress().of(f)...)
	}
	if list.covers(whole) {
		e.addList(key, extra)
		return false
	}
	not := whole.minus(list)
	if items(not) < items(list) && len(extra) == 0 {
		e.addList(except, m.listOf(not))
		return false
	}
	e.addList(key, append(extra, m.listOf(list)...))
	return true
}

// items counts how many addresses, prefixes and ranges a list is written as;
// ranges are the ones that nobody would write.
func items(list spans) int {
	n := 0
	for _, x := range list {
		if n++; strings.Contains(x.text(), "-") {
			n += 2
		}
	}
	return n
}

// longList is how many items stand in an entry before they become a set.
const longList = 6

func (m *importer) listOf(list spans) []string {
	for name, known := range m.rules.sets {
		if len(list) > 1 && slices.Equal(known, list) {
			_, short, _ := strings.Cut(name, " ")
			return []string{m.setNamed(fitName(short), list)}
		}
	}
	if len(list) > longList {
		return []string{m.setNamed("list", list)}
	}
	var out []string
	for _, x := range list {
		out = append(out, quoteAddress(x.text()))
	}
	return out
}

// setNamed gives the set of a list, by a name that is free.
func (m *importer) setNamed(name string, list spans) string {
	base := name
	for n := 2; ; n++ {
		i := slices.IndexFunc(m.policy.sets, func(s namedSet) bool { return s.name == name })
		if i < 0 && name != "any" && name != "gateway" {
			m.policy.sets = append(m.policy.sets, namedSet{name, list})
			return `"@` + name + `"`
		}
		if i >= 0 && slices.Equal(m.policy.sets[i].list, list) {
			return `"@` + name + `"`
		}
		name = base + "-" + strconv.Itoa(n)
	}
}
