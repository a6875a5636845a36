package adopt

import (
	"slices"
	"strconv"
	"strings"
)

func rateText(r *rate) string {
	limit := strconv.Itoa(r.count) + "/" + r.per
	if r.burst == 5 && !r.perSource {
		return limit
	}
	text := "{limit: " + limit
	if r.burst != 5 {
		text += ", burst: " + strconv.Itoa(r.burst)
	}
	if r.perSource {
		text += ", per: source"
	}
	return text + "}"
}

func logText(l *logging, r *rate) string {
	var keys []string
	prefix := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '$' {
			return -1
		}
		return c
	}, l.prefix)
	if prefix != "" {
		keys = append(keys, "prefix: "+strconv.Quote(prefix[:min(len(prefix), 63)]))
	}
	levels := []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}
	if n, err := strconv.Atoi(l.level); err == nil && n >= 0 && n < 8 && l.group < 0 {
		keys = append(keys, "level: "+levels[n])
	} else if slices.Contains(levels, l.level) && l.group < 0 {
		keys = append(keys, "level: "+l.level)
	}
	if r != nil {
		keys = append(keys, "rate: "+rateText(r))
	}
	if l.group >= 0 {
		keys = append(keys, "group: "+strconv.Itoa(l.group))
	}
	if len(keys) == 0 {
		return "true"
	}
	return "{" + strings.Join(keys, ", ") + "}"
}

// name gives an entry a name: of its comment, else of what it is about.
func (m *importer) name(e *entry) {
	base := ""
	for _, o := range e.at {
		if base = o.comment; base != "" {
			base = fitName(strings.TrimPrefix(base, "!fw4: "))
			break
		}
	}
	value := func(key string) string {
		for _, f := range e.fields {
			if f.key == key {
				return f.value
			}
		}
		return ""
	}
	if base == "" {
		parts := []string{}
		if e.drops {
			parts = append(parts, "no")
		}
		service := ""
		if len(e.dport) == 1 && e.dport[0].lo == e.dport[0].hi {
			for name, port := range serviceNames() {
				if port == e.dport[0].lo && (service == "" || len(name) < len(service) || len(name) == len(service) && name < service) {
					service = name
				}
			}
		}
		switch {
		case service != "":
			parts = append(parts, service)
		case value("icmp_types") == "echo-request":
			parts = append(parts, "ping")
		case value("protocol") != "":
			p := value("protocol")
			if len(p) > 20 {
				p = "protocols"
			}
			parts = append(parts, p, value("ports"))
		case e.section == "one_to_one":
			parts = append(parts, value("inside"))
		case value("family") != "" && len(e.fields) == 2:
			parts = append(parts, value("family"))
		default:
			parts = append(parts, value("from"))
			if to := value("to"); to != "" && (e.section == "forward" || e.section == "masquerade" || e.section == "snat") {
				parts = append(parts, "to", to)
			} else if d := value("destinations"); d != "" && len(d) < 20 {
				parts = append(parts, "to", d)
			}
			if s := value("sources"); s != "" && value("from") == "" {
				if strings.Contains(s, ",") {
					s = "list"
				}
				parts = append(parts, "from", s)
			}
		}
		base = fitName(strings.Join(parts, "-"))
		base = strings.Replace(base, "domain", "dns", 1)
		if base == "entry" || base == "no" || base == "to" {
			base = map[bool]string{true: "closed", false: "open"}[e.drops]
		}
	}
	if base == "any" || base == "gateway" {
		base += "-1"
	}
	name := base
	for n := 2; m.named[e.section+" "+name]; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	m.named[e.section+" "+name] = true
	e.name = name
}
