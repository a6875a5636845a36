package conntrack

import "time"

// Expectation is a connection that a helper has announced and that has not
// begun: an FTP data connection.
type Expectation struct {
	Family   Family
	Protocol uint8
	// Tuple is what its first packet will look like, where Mask has bits: an
	// address or port whose mask is zero may be any.
	Tuple, Mask Tuple
	// Master is the original direction of the connection that announced it.
	Master         Tuple
	MasterProtocol uint8
	Timeout        time.Duration // left, in whole seconds
	ID             uint32
	Helper         string
	Zone           uint16
	Class          uint32 // of the helper's own counting
	Flags          ExpectationFlags
	// NAT is what the source of Tuple will become, where Translated, and Reply
	// whether the packet goes in the master's reply direction.
	NAT        Tuple
	Translated bool
	Reply      bool
	// Function is the name of what translates it, or "".
	Function string
}

// ExpectationFlags is the kernel's NF_CT_EXPECT_* bits.
type ExpectationFlags uint32

// The flags.
const (
	ExpectationPermanent ExpectationFlags = 1 << 0 // stays when it has come true
	ExpectationInactive  ExpectationFlags = 1 << 1
	ExpectationUserspace ExpectationFlags = 1 << 2 // of a helper that is a program
)
