// Package packet holds the tests that send packets: a policy file as a user
// writes it, the ipmasq program as a user runs it, and what real hosts on both
// sides of the gateway see of each other then.
package packet

import (
	"flag"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestMain(m *testing.M) {
	// The tests mostly listen for what must not come: more of them than there
	// are CPUs can do that at once. A -parallel on the command line wins.
	if f := flag.Lookup("test.parallel"); f != nil {
		_ = f.Value.Set("10")
	}
	lab.Main(tests{m})
}
