//go:build linux

package nftables

import (
	"slices"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// The attributes of an object are the content of NFTA_OBJ_DATA, and of a
// flowtable its own attributes but for table and name.

func wantObjects(rs *ruleset.Ruleset) ([]plan.Object, error) {
	var out []plan.Object
	for _, h := range rs.Helpers {
		attributes := helperAttributes(h.Helper, h.Protocol, uint16(heldFamily(h)))
		out = append(out, plan.Object{Kind: plan.CtHelper, Name: h.Name, Attributes: attributes, Origin: h.Origin})
	}
	for _, x := range rs.Timeouts {
		attributes, err := wantTimeout(x)
		if err != nil {
			return nil, &backend.Refused{Object: "ct timeout " + x.Name, Origin: x.Origin, Err: err}
		}
		out = append(out, plan.Object{Kind: plan.CtTimeout, Name: x.Name, Attributes: attributes, Origin: x.Origin})
	}
	for _, f := range rs.Flowtables {
		flags := uint32(0)
		if f.Hardware {
			flags = flowtableHardware
		}
		devices := slices.Sorted(slices.Values(f.Devices))
		attributes := flowtableAttributes(uint32(int32(f.Priority)), flags, devices)
		out = append(out, plan.Object{Kind: plan.Flowtable, Name: f.Name, Attributes: attributes, Origin: f.Origin})
	}
	return out, nil
}

func helperAttributes(helper string, protocol uint8, family uint16) string {
	e := &nfnetlink.Encoder{}
	e.String(unix.NFTA_CT_HELPER_NAME, helper)
	e.Uint16(unix.NFTA_CT_HELPER_L3PROTO, family)
	e.Uint8(unix.NFTA_CT_HELPER_L4PROTO, protocol)
	return string(e.Written())
}

// heldFamily is the family that the kernel keeps of a helper: of one for both
// families that it has for IPv4 alone it keeps that.
func heldFamily(h *ruleset.Helper) ruleset.Family {
	switch h.Helper {
	case "irc", "netbios-ns", "pptp", "snmp":
		if h.Family == ruleset.Inet {
			return ruleset.IPv4
		}
	}
	return h.Family
}

func flowtableAttributes(priority, flags uint32, devices []string) string {
	e := &nfnetlink.Encoder{}
	hook := e.Open(nftaFlowtableHook)
	e.Uint32(nftaFlowtableHookNum, netdevIngress)
	e.Uint32(nftaFlowtablePriority, priority)
	list := e.Open(nftaFlowtableDevices)
	for _, d := range devices {
		e.String(nftaDeviceName, d)
	}
	e.Close(list)
	e.Close(hook)
	e.Uint32(nftaFlowtableFlags, flags)
	return string(e.Written())
}

// object makes or deletes an object.
func (t *transaction) object(o *plan.Object, makes bool) {
	if o.Kind == plan.Flowtable {
		t.flowtable(o, makes)
		return
	}
	msg, flags := unix.NFT_MSG_DELOBJ, uint16(0)
	if makes {
		msg, flags = unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE
	}
	typ := uint32(unix.NFT_OBJECT_CT_HELPER)
	if o.Kind == plan.CtTimeout {
		typ = nftObjectCtTimeout
	}
	s := t.begin(o.String(), o.Origin, msg, flags)
	if o.Kind == plan.CtHelper && makes {
		s.needs = "the kernel's helper " + helperOf(o) + " (module " + backend.HelperModule(helperOf(o)) + ")"
	}
	t.batch.String(unix.NFTA_OBJ_TABLE, Table)
	t.batch.String(unix.NFTA_OBJ_NAME, o.Name)
	t.batch.Uint32(unix.NFTA_OBJ_TYPE, typ)
	if !makes {
		return
	}
	data := t.batch.Open(unix.NFTA_OBJ_DATA)
	t.batch.Raw([]byte(o.Attributes))
	t.batch.Close(data)
	var udata []byte
	if o.Origin.Entry != "" {
		udata = appendComment(udata, commentRule, o.Origin.Entry)
	}
	if o.Kind == plan.CtTimeout {
		udata = appendNamed(udata, o.Attributes)
	}
	if udata != nil {
		t.batch.Bytes(nftaObjUserdata, udata)
	}
}

// needsFlowtables is what flowtables and the rules that use them need.
const needsFlowtables = "flowtables (CONFIG_NF_FLOW_TABLE_INET and CONFIG_NFT_FLOW_OFFLOAD)"

func (t *transaction) flowtable(o *plan.Object, makes bool) {
	msg, flags := unix.NFT_MSG_DELFLOWTABLE, uint16(0)
	if makes {
		msg, flags = unix.NFT_MSG_NEWFLOWTABLE, unix.NLM_F_CREATE
	}
	s := t.begin(o.String(), o.Origin, msg, flags)
	if makes {
		s.needs, s.cards = needsFlowtables, cards([]byte(o.Attributes))
	}
	t.batch.String(nftaFlowtableTable, Table)
	t.batch.String(nftaFlowtableName, o.Name)
	if makes {
		t.batch.Raw([]byte(o.Attributes))
	}
}

// objects reads named objects of the kinds that we make.
func (r *reader) objects() error {
	return r.dump(unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, nil, func(p []byte) error {
		var table, name string
		var kind uint32
		var data, udata []byte
		for a := nfnetlink.Attributes(p); a.Next(); {
			switch a.Type() {
			case unix.NFTA_OBJ_TABLE:
				table = a.String()
			case unix.NFTA_OBJ_NAME:
				name = a.String()
			case unix.NFTA_OBJ_TYPE:
				kind = a.Uint32()
			case unix.NFTA_OBJ_DATA:
				data = a.Bytes()
			case nftaObjUserdata:
				udata = a.Bytes()
			}
		}
		if table != Table {
			return nil
		}
		o := plan.Object{Name: name, Origin: ruleset.Origin{Entry: string(comment(udata))}}
		switch kind {
		case unix.NFT_OBJECT_COUNTER:
			c := plan.Counter{Name: name, Origin: o.Origin}
			c.Packets, c.Bytes = counterValues(data)
			r.snapshot.Counters = append(r.snapshot.Counters, c)
			return nil
		case unix.NFT_OBJECT_CT_HELPER:
			o.Kind, o.Attributes = plan.CtHelper, parseHelper(data)
		case nftObjectCtTimeout:
			o.Kind, o.Attributes = plan.CtTimeout, parseTimeout(data, udata)
		default:
			return nil
		}
		r.snapshot.Objects = append(r.snapshot.Objects, o)
		return nil
	})
}

// helperOf is the kernel's name of an object's helper.
func helperOf(o *plan.Object) string {
	name, _, _ := helperValues([]byte(o.Attributes))
	return name
}

func parseHelper(p []byte) string { return helperAttributes(helperValues(p)) }

func helperValues(p []byte) (name string, protocol uint8, family uint16) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_CT_HELPER_NAME:
			name = a.String()
		case unix.NFTA_CT_HELPER_L3PROTO:
			family = shortNumber(a.Bytes())
		case unix.NFTA_CT_HELPER_L4PROTO:
			protocol = byteNumber(a.Bytes())
		}
	}
	return name, protocol, family
}

// flowtables reads the flowtables.
func (r *reader) flowtables() error {
	return r.dump(unix.NFT_MSG_GETFLOWTABLE, nftaFlowtableTable, nil, func(p []byte) error {
		table, o := parseFlowtable(p)
		if table == Table {
			r.snapshot.Objects = append(r.snapshot.Objects, o)
		}
		return nil
	})
}

// cards are the devices of a flowtable that are to take its flows themselves.
func cards(attributes []byte) []string {
	if _, flags, devices := flowtableValues(attributes); flags&flowtableHardware != 0 {
		return devices
	}
	return nil
}

func parseFlowtable(p []byte) (table string, o plan.Object) {
	o.Kind = plan.Flowtable
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case nftaFlowtableTable:
			table = a.String()
		case nftaFlowtableName:
			o.Name = a.String()
		}
	}
	priority, flags, devices := flowtableValues(p)
	slices.Sort(devices)
	o.Attributes = flowtableAttributes(priority, flags, devices)
	return table, o
}

func flowtableValues(p []byte) (priority, flags uint32, devices []string) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case nftaFlowtableFlags:
			flags = a.Uint32()
		case nftaFlowtableHook:
			for h := nfnetlink.Attributes(a.Bytes()); h.Next(); {
				switch h.Type() {
				case nftaFlowtablePriority:
					priority = h.Uint32()
				case nftaFlowtableDevices:
					for d := nfnetlink.Attributes(h.Bytes()); d.Next(); {
						devices = append(devices, d.String())
					}
				}
			}
		}
	}
	return priority, flags, devices
}
