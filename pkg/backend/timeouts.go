package backend

// TimeoutState is a state of a transport protocol whose flows can be given a
// life of their own.
type TimeoutState struct {
	Name      string // as nft(8) has it
	Attribute uint16 // the kernel's number for it
	Seconds   uint32 // what the kernel has where nobody says otherwise
}

// TimeoutStates gives the states of a protocol (enum ctattr_timeout_* in
// uapi/linux/netfilter/nfnetlink_cttimeout.h), nil where there are none of it.
func TimeoutStates(protocol uint8) []TimeoutState {
	switch protocol {
	case 6:
		return []TimeoutState{
			{"syn_sent", 1, 120}, {"syn_recv", 2, 60}, {"established", 3, 432000}, {"fin_wait", 4, 120}, {"close_wait", 5, 60},
			{"last_ack", 6, 30}, {"time_wait", 7, 120}, {"close", 8, 10}, {"syn_sent2", 9, 120}, {"retrans", 10, 300}, {"unack", 11, 300},
		}
	case 17, 136:
		return []TimeoutState{{"unreplied", 1, 30}, {"replied", 2, 120}}
	case 1, 58:
		return []TimeoutState{{"timeout", 1, 30}}
	}
	return nil
}
