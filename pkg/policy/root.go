package policy

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// rootFields is the whole file.
func rootFields() []field[Policy] {
	return []field[Policy]{
		{key: "version", about: "the version of the policy language", value: integerOne, must: true,
			takes: "the number 1", decode: (*decoder).version},
		{key: "zones", about: "the sides of the gateway, by name", value: zonesShape,
			takes: "a mapping of names to zones", decode: (*decoder).zonesSection},
		{key: "sets", about: "named address lists, used as \"@name\" wherever addresses stand", value: setsShape,
			takes: "a mapping of names to address lists", decode: (*decoder).setsSection},
		{key: "masquerade", about: "many hosts behind the address that the gateway has on the way out; the first entry that matches a new flow translates it", value: sectionOf("masquerade"),
			takes: "a list of entries", decode: (*decoder).masqueradeSection},
		{key: "snat", about: "many hosts behind a pool of public addresses; comes before masquerade", value: sectionOf("snat"),
			takes: "a list of entries", decode: (*decoder).snatSection},
		{key: "one_to_one", about: "inside hosts and networks with outside addresses of their own, in both directions", value: sectionOf("one_to_one"),
			takes: "a list of entries", decode: (*decoder).oneToOneSection},
		{key: "port_forward", about: "the outside reaches a service inside; entries are tried in order", value: sectionOf("port_forward"),
			takes: "a list of entries", decode: (*decoder).portForwardSection},
		{key: "redirect", about: "flows are handed to a port of the gateway itself", value: sectionOf("redirect"),
			takes: "a list of entries", decode: (*decoder).redirectSection},
		{key: "forward", about: "what may pass the gateway", value: forwardShape,
			takes: "a mapping with `default` and `rules`", decode: (*decoder).forwardSection},
		{key: "input", about: "who may reach the gateway's own ports; left out, nothing is put on input", value: inputShape,
			takes: "a mapping with `default` and `rules`", decode: (*decoder).inputSection},
		{key: "gateway", about: "the machine itself", value: gatewayShape,
			takes: "a mapping of settings of the machine", decode: (*decoder).gatewaySection},
	}
}

// policyFile decodes the whole file.
func (d *decoder) policyFile() {
	root := d.parsed()
	if root == nil {
		// Its zones and sets may be what another file refers to.
		d.zonesUnknown, d.setsUnknown = true, true
		return
	}
	d.takes = "a policy is a mapping that begins with `version: 1`"
	w, ok := fields(d, root, rootFields(), d.policy)
	if ok && !w.has("version") {
		d.fail(Place{d.file, 1, 1}, "`version` is missing; begin the file with `version: 1`")
	}
}

// parsed gives the root of the file, or nil after it has reported why not.
func (d *decoder) parsed() *node {
	if !d.checkText() {
		return nil
	}
	root := d.parseYAML()
	switch {
	case root == nil:
		return nil
	case isNull(root), root.Kind == yaml.DocumentNode:
		d.fail(Place{d.file, 1, 1}, d.nothing())
		return nil
	case !d.checkAliases(root):
		return nil
	}
	return root
}

func (d *decoder) version(n *node, _ *Policy) {
	n = deref(n)
	switch {
	case n.Kind != yaml.ScalarNode || isNull(n):
		d.failAt(n, fmt.Sprintf("`version` takes the number 1, found %s; write `version: 1`", d.found(n)))
	case !d.plainTag(n):
	case n.Value == "1" && isPlain(n):
	case n.Value == "1":
		d.failAt(n, "`version` takes the number 1, found a text; write `version: 1`, without quotes")
	default:
		d.failAt(n, fmt.Sprintf("version %s of the policy language is not known here; write `version: 1`", quote(n.Value)))
	}
}

// named calls one for every key of a mapping of names (zones, sets), and
// refuses a name that was used before, in this file or another.
func (d *decoder) named(n *node, what string, taken func(string) (Place, bool), one func(name string, k, v *node)) bool {
	return d.pairs(n, func(name string, k, v *node) {
		if problem := nameProblem(name); problem != "" {
			d.failAt(k, problem)
		}
		if first, ok := taken(name); ok {
			d.failAt(k, fmt.Sprintf("the %s %s is declared twice; choose another name, or join the two", what, quote(name)),
				Note{first, "first declared here"})
			return
		}
		one(name, k, deref(v))
	})
}
