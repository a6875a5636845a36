package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

func helperNames() []string {
	return []string{"ftp", "irc", "sip", "tftp", "pptp", "h323", "amanda", "sane", "snmp", "netbios-ns"}
}

// protocols are those that a helper's control connection may have.
func (h Helper) protocols() []uint8 {
	switch h.Name {
	case "tftp", "amanda", "snmp", "netbios-ns":
		return []uint8{ProtocolUDP}
	case "sip", "h323":
		return []uint8{ProtocolTCP, ProtocolUDP}
	}
	return []uint8{ProtocolTCP}
}

func helpersField[T any](of func(*T) *[]Helper) field[T] {
	return field[T]{key: "helpers", about: "helpers of the kernel, which read protocols that name addresses and ports within a connection", value: helpersShape,
		takes: "the name of a helper as ftp, a list of names, or a mapping to ports as {ftp: [21, 2121]}", decode: func(d *decoder, n *node, to *T) {
			*of(to) = d.helpers(n)
		}}
}

// helpers decodes names, and mappings of names to ports.
func (d *decoder) helpers(n *node) []Helper {
	var list []Helper
	add := func(n *node, name string, ports []Ports) {
		h := Helper{Place: d.at(n), Name: name, Ports: ports}
		if !slices.Contains(helperNames(), name) {
			d.fail(h.Place, unknownHelper(name))
			return
		}
		if i := slices.IndexFunc(list, func(o Helper) bool { return o.Name == name }); i >= 0 {
			d.fail(h.Place, fmt.Sprintf("the helper %s is named twice; join the two", name), Note{list[i].Place, "first named here"})
			return
		}
		list = append(list, h)
	}
	d.each(n, func(n *node) {
		if n.Kind != yaml.MappingNode {
			if name, ok := d.text(n); ok {
				add(n, name, nil)
			}
			return
		}
		if !d.filled(n, "{ftp: [21, 2121]}, say") {
			return
		}
		key, takes := d.key, d.takes
		d.pairs(n, func(name string, k, v *node) {
			d.key, d.takes = name, portsTake
			add(k, name, d.ports(v))
			d.key, d.takes = key, takes
		})
	})
	return list
}

func unknownHelper(name string) string {
	message := "unknown helper " + quote(name)
	if near := nearest(name, helperNames()); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", message, near)
	}
	return fmt.Sprintf("%s; a helper is one of %s", message, strings.Join(helperNames(), ", "))
}
