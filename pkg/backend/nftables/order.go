//go:build linux

package nftables

import (
	"encoding/binary"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// inHostOrder says whether the kernel keeps values of a type in its own byte
// order. All these have four bytes.
func inHostOrder(t ruleset.Type) bool {
	switch t {
	case ruleset.CtState, ruleset.CtStatus, ruleset.FibAddrType, ruleset.IfIndex, ruleset.Mark, ruleset.Number, ruleset.Boolean:
		return true
	}
	return false
}

// kernelOrder turns a value between network byte order and the kernel's.
func kernelOrder(t ruleset.Type, v []byte) []byte {
	if !inHostOrder(t) {
		return v
	}
	return binary.NativeEndian.AppendUint32(nil, binary.BigEndian.Uint32(v))
}

// kernelOrders does so with the fields of a key.
func kernelOrders(types []ruleset.Type, key []byte) []byte {
	if !slices.ContainsFunc(types, inHostOrder) {
		return key
	}
	key = slices.Clone(key)
	at := 0
	for _, t := range types {
		copy(key[at:], kernelOrder(t, key[at:at+t.Size()]))
		at += t.Padded()
	}
	return key
}
