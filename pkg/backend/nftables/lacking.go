//go:build linux

package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"golang.org/x/sys/unix"
)

// lacking names the part of nf_tables that a kernel was built without, or whose
// module it does not find, where that is why it refuses a message. The kernel
// itself only says that there is no such thing, as it does of a name that a
// rule refers to and nothing has.
func (s *subject) lacking(message []byte, refused *nfnetlink.Error) error {
	if refused.Errno == unix.EOPNOTSUPP && len(s.cards) > 0 {
		return fmt.Errorf("`hardware` needs network cards and drivers that take flows, and not each of %s does; take it out: %w",
			strings.Join(s.cards, ", "), refused)
	}
	if refused.Errno != unix.ENOENT || len(message) < unix.NLMSG_HDRLEN {
		return refused
	}
	if s.needs != "" && refused.Offset == 0 {
		return fmt.Errorf("%s: %w: %w", s.needs, backend.ErrNotSupported, refused)
	}
	module := ""
	switch binary.NativeEndian.Uint16(message[4:]) & 0xff {
	case unix.NFT_MSG_NEWCHAIN:
		if attribute(message, unix.NLMSG_HDRLEN+4, unix.NFTA_CHAIN_TYPE) == "nat" {
			module = "chain_nat"
		}
	case unix.NFT_MSG_NEWRULE:
		module = attribute(message, refused.Offset+unix.NLA_HDRLEN, unix.NFTA_EXPR_NAME)
	}
	config := module
	switch module {
	case "flow_offload":
		return fmt.Errorf("%s: %w: %w", s.needs, backend.ErrNotSupported, refused) // of a flowtable that is there
	case "", "lookup", "immediate", "objref", "dynset":
		return refused // what is not there may be what these refer to
	case "chain_nat":
		config = "nat"
	case "notrack":
		module, config = "ct", "ct"
	case "fib", "reject":
		module += "_inet"
		config = module
	}
	return fmt.Errorf("%w: the module nft_%s (CONFIG_NFT_%s) is missing: %w",
		backend.ErrNotSupported, module, strings.ToUpper(config), refused)
}

// attribute gives the string of the first attribute of a type, in a list of
// attributes that begins at an offset; "" where there is none.
func attribute(message []byte, at int, typ uint16) string {
	for at >= unix.NLMSG_HDRLEN && at+unix.NLA_HDRLEN <= len(message) {
		size := int(binary.NativeEndian.Uint16(message[at:]))
		if size < unix.NLA_HDRLEN || at+size > len(message) {
			break
		}
		if binary.NativeEndian.Uint16(message[at+2:]) == typ {
			return strings.TrimRight(string(message[at+unix.NLA_HDRLEN:at+size]), "\x00")
		}
		at += (size + 3) &^ 3
	}
	return ""
}

// offloads says whether a rule gives flows to a flowtable.
func offloads(body []byte, o *plan.Object) bool {
	return o.Kind == plan.Flowtable && bytes.Contains(body, []byte("flow_offload\x00")) && bytes.Contains(body, []byte(o.Name+"\x00"))
}
