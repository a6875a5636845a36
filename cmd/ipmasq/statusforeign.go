package main

import (
	"fmt"

	"github.com/ipmasq/ipmasq/pkg/engine"
)

type foreignDocument struct {
	Kind          string  `json:"kind"`
	Family        string  `json:"family"`
	Table         string  `json:"table"`
	Chain         string  `json:"chain"`
	Hook          string  `json:"hook"`
	Type          string  `json:"type"`
	Priority      int     `json:"priority"`
	Policy        string  `json:"policy"`
	PolicyPackets *uint64 `json:"policy_packets,omitempty"`
	Stops         bool    `json:"stops"`
	Translates    bool    `json:"translates"`
}

func foreignJSON(list []engine.ForeignChain) []foreignDocument {
	out := []foreignDocument{}
	for _, c := range list {
		out = append(out, foreignDocument{c.Kind, c.Family, c.Table, c.Name, c.Hook, c.Type, c.Priority, foreignPolicy(c), c.Packets, c.Stops, c.Translates})
	}
	return out
}

func foreignPolicy(c engine.ForeignChain) string {
	if c.PolicyDrop {
		return "drop"
	}
	return "accept"
}

// foreignText is a chain of others in a line.
func foreignText(c engine.ForeignChain) string {
	does := "may translate first"
	switch {
	case c.PolicyDrop:
		does = "policy drop"
		if c.Packets != nil {
			does += fmt.Sprintf(", %s", counted(int(*c.Packets), "packet", "packets"))
		}
	case c.Stops:
		does = "may drop what ours let pass"
	}
	return fmt.Sprintf("%s %s %s of %s, at %s %d: %s", c.Family, c.Table, c.Name, c.Kind, c.Hook, c.Priority, does)
}
