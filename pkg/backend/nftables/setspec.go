//go:build linux

package nftables

import (
	"encoding/binary"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"golang.org/x/sys/unix"
)

// setSpec is what there is to a set but its name and elements.
type setSpec struct {
	flags               uint32
	keyType, keyLen     uint32
	dataType, dataLen   uint32
	fields              []uint8 // lengths of the key's fields, where ranges need them
	keyOrder, dataOrder uint32
	counted             bool
	comment             string
	// keyTypeof and dataTypeof are how nft(8) writes types that have no name.
	keyTypeof, dataTypeof []byte
	dataInterval          bool
	// size is how many elements a hash was made for, 0 for one that grows.
	size uint32
	// timeout is how long elements stay, in milliseconds, 0 for ever.
	timeout uint64
}

// Numbers that nft(8) gives the types (enum datatypes in its datatype.h); the
// kernel keeps them and does not look.
func typeNumber(t ruleset.Type) uint32 {
	switch t {
	case ruleset.Verdict:
		return unix.NFT_DATA_VERDICT
	case ruleset.Number:
		return 4
	case ruleset.IPv4Addr:
		return 7
	case ruleset.IPv6Addr:
		return 8
	case ruleset.InetProto:
		return 12
	case ruleset.InetService:
		return 13
	case ruleset.ICMPType:
		return 14
	case ruleset.CtDir:
		return 27
	case ruleset.Mark:
		return 19
	case ruleset.ICMPv6Type:
		return 29
	case ruleset.IfName:
		return 41
	}
	return 0
}

// typesNumber packs the numbers of a concatenation, six bits each.
func typesNumber(types []ruleset.Type) uint32 {
	if len(types) == 1 {
		return typeNumber(types[0])
	}
	n := uint32(0)
	for _, t := range types {
		n = n<<6 | typeNumber(t)
	}
	return n
}

// Byte orders, as nft(8) notes them in a set's userdata.
const (
	orderNone = 0
	orderHost = 1
	orderBig  = 2
)

func typesOrder(types []ruleset.Type) uint32 {
	switch {
	case len(types) > 1 || types[0] == ruleset.Verdict || types[0] == ruleset.InetProto || types[0] == ruleset.CtDir:
		return orderNone
	case types[0] == ruleset.IfName || inHostOrder(types[0]):
		return orderHost
	}
	return orderBig
}

// Kinds of userdata on a set (libnftnl, udata.h).
const (
	udataKeyOrder   = 0
	udataDataOrder  = 1
	udataKeyTypeof  = 3
	udataDataTypeof = 4
	udataInterval   = 6
	udataComment    = 7
)

// flagConcat marks a set whose key has several fields and holds ranges.
const flagConcat = 0x80

func specOf(s *ruleset.Set) setSpec {
	spec := setSpec{
		keyType: typesNumber(s.Key), keyLen: uint32(s.KeyLen()), keyOrder: typesOrder(s.Key),
		counted: s.Counted, comment: s.Origin.Entry, size: sizeOf(s),
	}
	if s.Dynamic {
		spec.flags |= unix.NFT_SET_EVAL
	}
	if s.Timeout > 0 {
		spec.flags |= unix.NFT_SET_TIMEOUT
		spec.timeout = 1000 * uint64(s.Timeout)
	}
	if s.Interval {
		spec.flags |= unix.NFT_SET_INTERVAL
		if len(s.Key) > 1 {
			spec.flags |= flagConcat
			for _, t := range s.Key {
				spec.fields = append(spec.fields, uint8(t.Size()))
			}
		}
	}
	if s.Data != nil {
		spec.flags |= unix.NFT_SET_MAP
		spec.dataType, spec.dataOrder = typesNumber(s.Data), typesOrder(s.Data)
		if !s.IsVerdictMap() {
			spec.dataLen = uint32(s.DataLen())
		}
		spec.typeof(s)
	}
	return spec
}

func (s *setSpec) interval() bool     { return s.flags&unix.NFT_SET_INTERVAL != 0 }
func (s *setSpec) concatenated() bool { return s.flags&flagConcat != 0 }
func (s *setSpec) dynamic() bool      { return s.flags&unix.NFT_SET_EVAL != 0 }
func (s *setSpec) isMap() bool        { return s.flags&unix.NFT_SET_MAP != 0 }
func (s *setSpec) isVerdictMap() bool { return s.isMap() && s.dataType == unix.NFT_DATA_VERDICT }

// recordKey is how much of an element's record is its key: both ends of a
// range count.
func (s *setSpec) recordKey() int {
	if s.interval() {
		return 2 * int(s.keyLen)
	}
	return int(s.keyLen)
}

// attributes encodes the specification as attributes of NFT_MSG_NEWSET. It is
// the one form in which specifications are kept and compared.
func (s *setSpec) attributes() string {
	e := &nfnetlink.Encoder{}
	e.Uint32(unix.NFTA_SET_FLAGS, s.flags)
	e.Uint32(unix.NFTA_SET_KEY_TYPE, s.keyType)
	e.Uint32(unix.NFTA_SET_KEY_LEN, s.keyLen)
	if s.isMap() {
		e.Uint32(unix.NFTA_SET_DATA_TYPE, s.dataType)
		e.Uint32(unix.NFTA_SET_DATA_LEN, s.dataLen)
	}
	if s.size > 0 || len(s.fields) > 0 {
		desc := e.Open(unix.NFTA_SET_DESC)
		s.describe(e)
		e.Close(desc)
	}
	if s.timeout > 0 {
		e.Uint64(unix.NFTA_SET_TIMEOUT, s.timeout)
	}
	var udata []byte
	udata = appendOrder(udata, udataKeyOrder, s.keyOrder)
	if s.isMap() {
		udata = appendOrder(udata, udataDataOrder, s.dataOrder)
	}
	if s.keyTypeof != nil {
		udata = appendUserdata(udata, udataKeyTypeof, s.keyTypeof)
	}
	if s.dataTypeof != nil {
		udata = appendUserdata(udata, udataDataTypeof, s.dataTypeof)
	}
	if s.dataInterval {
		udata = appendOrder(udata, udataInterval, 1)
	}
	if s.comment != "" {
		udata = appendComment(udata, udataComment, s.comment)
	}
	e.Bytes(unix.NFTA_SET_USERDATA, udata)
	if s.counted {
		expr := e.Open(nftaSetExpr)
		e.String(unix.NFTA_EXPR_NAME, "counter")
		e.Close(e.Open(unix.NFTA_EXPR_DATA))
		e.Close(expr)
	}
	return string(e.Written())
}

// describe writes what helps the kernel to choose how to keep the elements.
func (s *setSpec) describe(e *nfnetlink.Encoder) {
	if s.size > 0 {
		e.Uint32(unix.NFTA_SET_DESC_SIZE, s.size)
	}
	if len(s.fields) == 0 {
		return
	}
	concat := e.Open(nftaSetDescConcat)
	for _, n := range s.fields {
		field := e.Open(unix.NFTA_LIST_ELEM)
		e.Uint32(nftaSetFieldLen, uint32(n))
		e.Close(field)
	}
	e.Close(concat)
}

// parseSpec reads a specification from the attributes of a dumped set, or from
// what attributes gave.
func parseSpec(p []byte) setSpec {
	var s setSpec
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_SET_FLAGS:
			s.flags = a.Uint32()
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = a.Uint32()
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = a.Uint32()
		case unix.NFTA_SET_DATA_TYPE:
			s.dataType = a.Uint32()
		case unix.NFTA_SET_DATA_LEN:
			s.dataLen = a.Uint32()
		case unix.NFTA_SET_DESC:
			s.size, s.fields = parseDescription(a.Bytes())
		case unix.NFTA_SET_TIMEOUT:
			s.timeout = a.Uint64()
		case unix.NFTA_SET_USERDATA:
			eachUserdata(a.Bytes(), func(kind uint8, value []byte) {
				switch {
				case kind == udataKeyOrder && len(value) == 4:
					s.keyOrder = binary.NativeEndian.Uint32(value)
				case kind == udataDataOrder && len(value) == 4:
					s.dataOrder = binary.NativeEndian.Uint32(value)
				case kind == udataKeyTypeof && !typeofSeveral(value):
					s.keyTypeof = value
				case kind == udataDataTypeof && !typeofSeveral(value):
					s.dataTypeof = value
				case kind == udataInterval && len(value) == 4:
					s.dataInterval = binary.NativeEndian.Uint32(value) != 0
				case kind == udataComment:
					s.comment = text(value)
				}
			})
		case nftaSetExpr:
			s.counted = expressionName(a.Bytes()) == "counter"
		}
	}
	if s.isVerdictMap() {
		s.dataLen = 0 // the kernel says the size of its own structure
	}
	return s
}

func parseDescription(desc []byte) (size uint32, fields []uint8) {
	for a := nfnetlink.Attributes(desc); a.Next(); {
		switch a.Type() {
		case unix.NFTA_SET_DESC_SIZE:
			size = a.Uint32()
		case nftaSetDescConcat:
			for f := nfnetlink.Attributes(a.Bytes()); f.Next(); {
				for l := nfnetlink.Attributes(f.Bytes()); l.Next(); {
					fields = append(fields, uint8(l.Uint32()))
				}
			}
		}
	}
	return size, fields
}

func expressionName(p []byte) string {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() == unix.NFTA_EXPR_NAME {
			return a.String()
		}
	}
	return ""
}

// elementText writes the key of an element's record as nft(8) would.
func (s *setSpec) elementText(record []byte) string {
	var types []ruleset.Type
	for n := s.keyType; n != 0; n >>= 6 {
		for t := ruleset.Verdict; t <= ruleset.Number; t++ {
			if t != ruleset.Verdict && typeNumber(t) == n&0x3f {
				types = append([]ruleset.Type{t}, types...)
			}
		}
	}
	low := record[:s.keyLen]
	high := low
	if s.interval() {
		high = record[s.keyLen : 2*s.keyLen]
	}
	return keyText(types, kernelOrders(types, low), kernelOrders(types, high))
}
