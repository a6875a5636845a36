//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// timeoutState is a state of a transport protocol.
type timeoutState struct {
	name      string
	attribute uint16
	seconds   uint32 // what the kernel has where nobody says otherwise
}

// timeoutStates gives the states of a protocol (enum ctattr_timeout_* in
// uapi/linux/netfilter/nfnetlink_cttimeout.h), nil where there are none of it.
func timeoutStates(protocol uint8) []timeoutState {
	switch protocol {
	case 6:
		return []timeoutState{
			{"syn_sent", 1, 120}, {"syn_recv", 2, 60}, {"established", 3, 432000}, {"fin_wait", 4, 120}, {"close_wait", 5, 60},
			{"last_ack", 6, 30}, {"time_wait", 7, 120}, {"close", 8, 10}, {"syn_sent2", 9, 120}, {"retrans", 10, 300}, {"unack", 11, 300},
		}
	case 17, 136:
		return []timeoutState{{"unreplied", 1, 30}, {"replied", 2, 120}}
	case 1, 58:
		return []timeoutState{{"timeout", 1, 30}}
	}
	return nil
}

func wantTimeout(x *ruleset.Timeout) (string, error) {
	states := timeoutStates(x.Protocol)
	if states == nil {
		return "", fmt.Errorf("no timeouts of protocol %d can be told", x.Protocol)
	}
	values := map[uint16]uint32{}
	for _, p := range x.Policy {
		attribute := uint16(0)
		for _, s := range states {
			if s.name == p.State {
				attribute = s.attribute
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
	for _, s := range timeoutStates(protocol) {
		if v, named := values[s.attribute]; named {
			e.Uint32(s.attribute, v)
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
	for _, s := range timeoutStates(protocol) {
		if ours && named>>s.attribute&1 == 0 || !ours && values[s.attribute] == s.seconds {
			delete(values, s.attribute)
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
