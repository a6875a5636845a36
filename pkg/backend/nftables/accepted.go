//go:build linux

package nftables

import (
	"bytes"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// accepted gives a dumped rule in the form in which the kernel takes it back.
// There are two expressions that it dumps otherwise: dynset with a timeout of
// 0, and exthdr that writes with flags that only reading has.
func accepted(body []byte) []byte {
	if !bytes.Contains(body, []byte("dynset\x00")) && !bytes.Contains(body, []byte("exthdr\x00")) {
		return body
	}
	e := &nfnetlink.Encoder{}
	for x := nfnetlink.Attributes(body); x.Next(); {
		elem := e.Open(x.Type())
		name := expressionName(x.Bytes())
		for a := nfnetlink.Attributes(x.Bytes()); a.Next(); {
			if a.Type() != unix.NFTA_EXPR_DATA {
				e.Bytes(a.Type(), a.Bytes())
				continue
			}
			data := e.Open(a.Type())
			writes := has(a.Bytes(), unix.NFTA_EXTHDR_SREG)
			for d := nfnetlink.Attributes(a.Bytes()); d.Next(); {
				switch {
				case name == "dynset" && d.Type() == unix.NFTA_DYNSET_TIMEOUT && d.Uint64() == 0:
				case name == "exthdr" && d.Type() == unix.NFTA_EXTHDR_FLAGS && writes:
				default:
					e.Bytes(d.Type(), d.Bytes())
				}
			}
			e.Close(data)
		}
		e.Close(elem)
	}
	return e.Written()
}

func has(p []byte, typ uint16) bool {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() == typ {
			return true
		}
	}
	return false
}
