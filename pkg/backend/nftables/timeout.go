//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

func wantTimeout(x *ruleset.Timeout) (string, error) {
	states := backend.TimeoutStates(x.Protocol)
	if states == nil {
		return "", fmt.Errorf("no timeouts of protocol %d can be told", x.Protocol)
	}
	values := map[uint16]uint32{}
	for _, p := range x.Policy {
		attribute := uint16(0)
		for _, s := range states {
			if s.Name == p.State {
				attribute = s.Attribute
			}
		}
		if attribute == 0 {
			return "", fmt.Errorf("protocol %d has no state %q", x.Protocol, p.State)
		}
		values[attribute] = p.Seconds
	}
	return timeoutAttributes(x.Protocol, uint16(x.Family), values), nil
}

// timeoutAttributes encodes the states that have a value.
func timeoutAttributes(protocol uint8, family uint16, values map[uint16]uint32) string {
	e := &nfnetlink.Encoder{}
	e.Uint8(nftaCtTimeoutL4proto, protocol)
	e.Uint16(nftaCtTimeoutL3proto, family)
	n := e.Open(nftaCtTimeoutData)
	for _, s := range backend.TimeoutStates(protocol) {
		if v, named := values[s.Attribute]; named {
			e.Uint32(s.Attribute, v)
		}
	}
	e.Close(n)
	return string(e.Written())
}

// parseTimeout reads a dumped object. The kernel fills the states that were not
// named with what the host has at that moment, and dumps all: which were named
// is in the userdata. Where it is not, nft(8) made the object, and a state with
// the kernel's own value is one that was not named.
func parseTimeout(data, udata []byte) string {
	protocol, family, values := timeoutValues(data)
	named := uint16(0)
	ours := false
	eachUserdata(udata, func(kind uint8, value []byte) {
		if kind == udataNamed && len(value) == 2 {
			named, ours = binary.BigEndian.Uint16(value), true
		}
	})
	for _, s := range backend.TimeoutStates(protocol) {
		if ours && named>>s.Attribute&1 == 0 || !ours && values[s.Attribute] == s.Seconds {
			delete(values, s.Attribute)
		}
	}
	return timeoutAttributes(protocol, family, values)
}

func timeoutValues(p []byte) (protocol uint8, family uint16, values map[uint16]uint32) {
	values = map[uint16]uint32{}
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case nftaCtTimeoutL4proto:
			protocol = byteNumber(a.Bytes())
		case nftaCtTimeoutL3proto:
			family = shortNumber(a.Bytes())
		case nftaCtTimeoutData:
			for s := nfnetlink.Attributes(a.Bytes()); s.Next(); {
				values[s.Type()] = s.Uint32()
			}
		}
	}
	return protocol, family, values
}

// udataNamed is the kind of userdata that tells the named states of a timeout
// object, a bit for each attribute. It is ours; nft(8) passes over it.
const udataNamed = 0x80

func appendNamed(p []byte, attributes string) []byte {
	_, _, values := timeoutValues([]byte(attributes))
	named := uint16(0)
	for attribute := range values {
		named |= 1 << attribute
	}
	return binary.BigEndian.AppendUint16(append(p, udataNamed, 2), named)
}

// shortNumber and byteNumber are 0 where the value is too short.
func shortNumber(p []byte) uint16 {
	if len(p) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(p)
}

func byteNumber(p []byte) uint8 {
	if len(p) < 1 {
		return 0
	}
	return p[0]
}
