package draft

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// writer puts a draft on paper.
type writer struct {
	*surveyed
	text bytes.Buffer
	off  bool // what is not said by a comment is commented out
}

const width = 96

// comment writes a text over as many lines as it takes.
func (w *writer) comment(indent int, format string, args ...any) {
	begin := strings.Repeat(" ", indent) + "#"
	line := begin
	for _, word := range strings.Fields(fmt.Sprintf(format, args...)) {
		if len(line)+1+len(word) > width && line != begin {
			w.text.WriteString(line + "\n")
			line = begin
		}
		line += " " + word
	}
	w.text.WriteString(line + "\n")
}

// line writes a line of the policy.
func (w *writer) line(format string, args ...any) {
	if w.off {
		w.choice(format, args...)
		return
	}
	fmt.Fprintf(&w.text, format+"\n", args...)
}

// choice writes a line that is for its reader to take the # from.
func (w *writer) choice(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	indent := len(line) - len(strings.TrimLeft(line, " "))
	w.text.WriteString(line[:indent] + "#" + line[indent:] + "\n")
}

func (w *writer) blank() { w.text.WriteByte('\n') }

// head says what this is, and what to do with it.
func (w *writer) head() {
	w.comment(0, "A policy for this host, drafted by `ipmasq init` from its interfaces, addresses and routes. "+
		"It is yours now: read it, change it, and put it in force with a way back:")
	w.text.WriteString(`#
#   ipmasq check FILE                  is it valid?
#   ipmasq plan FILE                   what would change?
#   ipmasq apply --confirm 60s FILE    goes back by itself unless you say yes
#
`)
	w.comment(0, "Inside hosts go out with this host's address, and nothing new comes in. What has a # directly before it is an example: "+
		"take the # away where you want it. docs/policy.md explains every key; `ipmasq schema` is for editors.")
	w.line0("version: 1")
	w.off = len(w.uplinks) == 0
	if w.off {
		w.blank()
		w.comment(0, "No default route tells which interface is the uplink. So all that follows is commented out, and the policy does nothing yet: "+
			"write the uplink's interface, and take the # away.")
	}
}

// line0 is a line that stands whatever is off.
func (w *writer) line0(text string) { w.text.WriteString(text + "\n") }

// plain are the texts that YAML takes as they are.
func plain(text string) string {
	simple := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*(/[0-9]+)?$`)
	if simple.MatchString(text) && !strings.EqualFold(text, "null") {
		return text
	}
	return strconv.Quote(text)
}

// list writes one item alone, and several in brackets.
func list(items []string) string {
	if len(items) == 1 {
		return items[0]
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func bracketed(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

func prefixes(all []netip.Prefix) []string {
	var items []string
	for _, p := range all {
		items = append(items, plain(p.String()))
	}
	return items
}

func zoneNames(sites []*site) []string {
	var names []string
	for _, x := range sites {
		names = append(names, x.zone)
	}
	return names
}

// only are the prefixes of a family.
func only(all []netip.Prefix, ipv4 bool) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return p.Addr().Is4() != ipv4 })
}

// words joins as a sentence does.
func words(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}
