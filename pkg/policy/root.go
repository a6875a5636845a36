package policy

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// rootFields is the whole file.
func rootFields() []field[Policy] {
	return []field[Policy]{
		{key: "version", takes: "the number 1", decode: (*decoder).version},
		{key: "zones", takes: "a mapping of names to zones", decode: (*decoder).zonesSection},
		{key: "sets", takes: "a mapping of names to address lists", decode: (*decoder).setsSection},
		{key: "masquerade", takes: "a list of entries", decode: (*decoder).masqueradeSection},
		{key: "snat", takes: "a list of entries", decode: (*decoder).snatSection},
		{key: "one_to_one", takes: "a list of entries", decode: (*decoder).oneToOneSection},
		{key: "port_forward", takes: "a list of entries", decode: (*decoder).portForwardSection},
		{key: "redirect", takes: "a list of entries", decode: (*decoder).redirectSection},
		{key: "forward", takes: "a mapping with `default` and `rules`", decode: (*decoder).forwardSection},
		{key: "input", takes: "a mapping with `default` and `rules`", decode: (*decoder).inputSection},
		{key: "gateway", takes: "a mapping of settings of the machine", decode: (*decoder).gatewaySection},
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
		d.fail(Place{d.file, 1, 1}, emptyFile)
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
