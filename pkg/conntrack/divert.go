package conntrack

// Diversion is a connection to divert, and the ports that what its answering
// side sends next may leave from.
type Diversion struct {
	Flow
	First, Last uint16
}
