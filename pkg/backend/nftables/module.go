//go:build linux

package nftables

import (
	"github.com/ipmasq/ipmasq/pkg/plan"
)

// newHelpers are the helpers of the kernel that changes make objects of.
func newHelpers(changes *plan.Changes) []string {
	var out []string
	for _, c := range changes.Objects {
		if c.To >= 0 && c.Kind != plan.Keep && changes.To.Objects[c.To].Kind == plan.CtHelper {
			out = append(out, helperOf(&changes.To.Objects[c.To]))
		}
	}
	return out
}
