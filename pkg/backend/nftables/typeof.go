//go:build linux

package nftables

import (
	"bytes"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// What nft(8) notes of a type that was written as "typeof EXPRESSION": the kind
// of the expression (enum expr_types of its expression.h), then what it is made
// of.
const (
	typeofKind = 0
	typeofData = 1

	exprVerdict = 1
	exprPayload = 7
	exprConcat  = 13
	exprNumgen  = 23
)

// headerField is a field of a header as nft(8) numbers them (enum
// proto_desc_id in its proto.h, and the header's own list).
type headerField struct{ header, field uint32 }

// pickedField is what pickedData writes for a type.
func pickedField(t ruleset.Type) headerField {
	switch t {
	case ruleset.IPv4Addr:
		return headerField{12, 12} // ip daddr
	case ruleset.IPv6Addr:
		return headerField{13, 9} // ip6 daddr
	}
	return headerField{11, 2} // th dport
}

func typeofExpr(kind uint32, data []byte) []byte {
	return appendUserdata(appendOrder(nil, typeofKind, kind), typeofData, data)
}

// typeof notes of a map for what Pick chooses what pickedKey and pickedData
// say, and of one whose values are ranges that they are: nft(8) 1.0.6 ends by a
// signal where it lists such a map without.
func (s *setSpec) typeof(set *ruleset.Set) {
	s.dataInterval = set.DataInterval
	if picked(set) {
		s.keyTypeof = typeofExpr(exprNumgen, appendOrder(appendOrder(appendOrder(nil, 0, 0), 1, 2), 2, 0))
		s.dataTypeof = typeofPicked(set.Data)
	}
}

// typeofSeveral says whether no more is noted than that there are several
// fields, as nft(8) does with any; the type says which.
func typeofSeveral(p []byte) bool { return bytes.Equal(p, typeofExpr(exprConcat, nil)) }

func typeofPicked(types []ruleset.Type) []byte {
	if types[0] == ruleset.Verdict {
		return typeofExpr(exprVerdict, nil)
	}
	var all []byte
	for i, t := range types {
		f := pickedField(t)
		one := typeofExpr(exprPayload, appendOrder(appendOrder(nil, 0, f.header), 1, f.field))
		if len(types) == 1 {
			return one
		}
		all = appendUserdata(all, uint8(i), one)
	}
	return typeofExpr(exprConcat, all)
}
