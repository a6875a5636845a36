package flows

import (
	"bytes"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// Uplink is an interface whose flows the rules mark, so that their answers leave
// by it: the mark tells where a flow came in.
type Uplink struct {
	Name       string
	Mark, Mask uint32
}

// Uplinks finds them among the rules that see new packets arrive.
func Uplinks(rules *ruleset.Ruleset) []Uplink {
	var out []Uplink
	for _, c := range rules.Chains {
		for _, r := range c.Rules {
			if len(r.Do) != 1 || r.Do[0].Kind != ruleset.SetCtMark {
				continue
			}
			for _, m := range r.Matches {
				if m.Op == ruleset.Equal && m.Bits == 0 && m.Fields[0] == ruleset.IIfName {
					out = append(out, Uplink{string(bytes.TrimRight(m.Value, "\x00")), r.Do[0].Value, r.Do[0].Mask})
				}
			}
		}
	}
	return out
}
