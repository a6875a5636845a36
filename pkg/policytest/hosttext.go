package policytest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// HostText writes a host as it is described in a file, with nothing left out.
func HostText(h *link.Host) string {
	var b strings.Builder
	if len(h.Links) > 0 {
		b.WriteString("links:\n")
	}
	for _, l := range h.Links {
		var keys []string
		var addresses []string
		for _, a := range l.Addresses {
			addresses = append(addresses, word(a.Prefix.String()))
		}
		if len(addresses) == 0 {
			keys = append(keys, "addresses: none")
		} else {
			keys = append(keys, "addresses: ["+strings.Join(addresses, ", ")+"]")
		}
		keys = append(keys, "gateway: none") // the routes say it
		if l.PointToPoint {
			keys = append(keys, "point_to_point: true")
		}
		if !l.Up {
			keys = append(keys, "up: false")
		}
		fmt.Fprintf(&b, "  %s: {%s}\n", name(l.Name), strings.Join(keys, ", "))
	}
	if len(h.Routes) > 0 {
		b.WriteString("routes:\n")
	}
	for _, r := range h.Routes {
		b.WriteString("  - {" + strings.Join(routeWords(r), ", ") + "}\n")
	}
	seen := map[link.Rule]bool{}
	for _, r := range h.Rules {
		r.Family = 0
		if len(seen) == 0 {
			b.WriteString("rules:\n")
		}
		if !seen[r] {
			fmt.Fprintf(&b, "  - {mark: %#x/%#x, table: %d, priority: %d}\n", r.Mark, r.Mask, r.Table, r.Priority)
		}
		seen[r] = true
	}
	return b.String()
}

func routeWords(r link.HostRoute) []string {
	to := word(r.To.String())
	if r.To.Bits() == 0 && r.Gateway.IsValid() && r.Gateway.Is4() == r.To.Addr().Is4() {
		to = "default"
	}
	keys := []string{"to: " + to}
	if r.Gateway.IsValid() {
		keys = append(keys, "via: "+word(r.Gateway.String()))
	}
	if r.Interface != "" {
		keys = append(keys, "link: "+name(r.Interface))
	}
	if r.Metric != 0 {
		keys = append(keys, "metric: "+strconv.FormatUint(uint64(r.Metric), 10))
	}
	if r.Table != 0 {
		keys = append(keys, "table: "+strconv.Itoa(r.Table))
	}
	for text, kind := range kinds() {
		if kind == r.Kind && kind != link.KindUnicast {
			keys = append(keys, "kind: "+text)
		}
	}
	return keys
}

// word quotes what YAML would not take as it is.
func word(text string) string {
	if strings.Contains(text, ":") {
		return strconv.Quote(text)
	}
	return text
}

// name quotes the name of a link that YAML would take for something else.
func name(text string) string {
	if _, err := strconv.ParseFloat(text, 64); err == nil || strings.ContainsAny(text, "#&*!|>'\"%@`{}[],?-") && !plain(text) {
		return strconv.Quote(text)
	}
	switch strings.ToLower(text) {
	case "true", "false", "null", "~", "yes", "no", "on", "off", "y", "n":
		return strconv.Quote(text)
	}
	return text
}

// plain says whether a text is letters, digits, dots, hyphens and underscores,
// with a letter first.
func plain(text string) bool {
	for i, c := range text {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')) {
			return false
		}
	}
	return true
}
