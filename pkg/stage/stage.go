// Package stage is a throw-away gateway in a real kernel, and the hosts around
// it: namespaces that nobody else sees, packets that go in at one end, and what
// comes out at the others.
//
// [Enter] starts the program again in namespaces of its own, without privilege;
// what is made there goes with the process, however it ends, and the namespace
// that it was started in is never touched. The far ends of the gateway's links
// are sockets: they are whoever a packet says.
package stage

import (
	"errors"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// ErrNoStage says that there can be no stage here; the error that wraps it says
// what is missing.
var ErrNoStage = errors.New("namespaces for the test cannot be made here")

// Gateway is a described host that stands in the kernel. It serves one goroutine
// at a time.
type Gateway struct {
	host  link.Host
	apply func(ns *link.NetNS, stateDir string) error
	stage *stage // nil until it is needed
}

// New takes the host, and what puts a policy in force there: apply works on a
// namespace, and keeps its state in a folder that is gone with the gateway.
func New(h link.Host, apply func(ns *link.NetNS, stateDir string) error) *Gateway {
	return &Gateway{host: h, apply: apply}
}

// Seen is what became of a packet.
type Seen struct {
	Verdict simulate.Verdict
	Out     string // the interface that it left by
	Left    simulate.Ends
}
