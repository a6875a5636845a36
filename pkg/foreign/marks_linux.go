package foreign

import "encoding/binary"

// bitsOf are the bits in which what is in a register may differ from the mark that
// was loaded: none of a mark as it is, all of what is no mark.
func (l load) bitsOf() uint32 {
	if l.marked {
		return l.set
	}
	return allMarks
}

// masked is a mark of which bits are kept by mask, and turned round by xor.
func (l load) masked(mask, xor []byte) (marked bool, set uint32) {
	if !l.marked || len(mask) != 4 {
		return l.marked && mask == nil, l.set
	}
	set = l.set | ^binary.NativeEndian.Uint32(mask)
	if len(xor) == 4 {
		set |= binary.NativeEndian.Uint32(xor)
	}
	return true, set
}
