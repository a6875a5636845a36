package link

import (
	"errors"
	"net/netip"
)

// Passage is a packet that the host is to route.
type Passage struct {
	In                          string // the link that it comes by
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16 // 0: not said
	Mark                        uint32
}

// ErrRefused says that the kernel routes a packet nowhere.
var ErrRefused = errors.New("the kernel routes it nowhere")
