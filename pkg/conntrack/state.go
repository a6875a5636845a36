package conntrack

import "strconv"

// State is where TCP or SCTP is in its life, as the kernel's conntrack sees it
// (linux/netfilter/nf_conntrack_tcp.h, nf_conntrack_sctp.h).
type State uint8

// TCP's states.
const (
	TCPNone State = iota
	TCPSynSent
	TCPSynRecv
	TCPEstablished
	TCPFinWait
	TCPCloseWait
	TCPLastAck
	TCPTimeWait
	TCPClose
	TCPSynSent2 // both ends opened at once
)

// TCPStates are the names of TCP's states, in the order of their numbers.
func TCPStates() []string {
	return []string{"none", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "syn_sent2"}
}

// sctpStates are those of enum sctp_conntrack (linux/netfilter/nf_conntrack_sctp.h).
func sctpStates() []string {
	return []string{"none", "closed", "cookie_wait", "cookie_echoed", "established", "shutdown_sent", "shutdown_recd",
		"shutdown_ack_sent", "heartbeat_sent"}
}

// ProtocolState names where TCP or SCTP is in its life; "" for protocols that
// keep no such thing.
func (f *Flow) ProtocolState() string {
	var names []string
	switch f.Protocol {
	case ProtocolTCP:
		names = TCPStates()
	case ProtocolSCTP:
		names = sctpStates()
	default:
		return ""
	}
	if int(f.State) < len(names) {
		return names[f.State]
	}
	return strconv.Itoa(int(f.State))
}

// Stage is the state of the protocol or, where it keeps none, how far a flow has
// come: unreplied, replied or assured.
func (f *Flow) Stage() string {
	switch state := f.ProtocolState(); {
	case state != "":
		return state
	case f.Status&StatusSeenReply == 0:
		return "unreplied"
	case f.Status&StatusAssured == 0:
		return "replied"
	}
	return "assured"
}
