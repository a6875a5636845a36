package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
)

// TestMostTargets holds how many targets an entry may have, and that the error
// shows the first that is one too many.
func TestMostTargets(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1024, 1025} {
		var b strings.Builder
		b.WriteString("version: 1\nzones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}\nport_forward:\n  name: web\n  from: wan\n  protocol: tcp\n  ports: 80\n  to:\n")
		for i := range n {
			fmt.Fprintf(&b, "    - %s\n", addr(10<<24+uint32(i)))
		}
		r, err := compile.Compile(parse(t, "policy.yaml", b.String()), compile.Facts{})
		switch {
		case n > 1024 && (err == nil || !strings.HasPrefix(err.Error(), "policy.yaml:1033:7: port_forward web has 1025 targets, and may have 1024; ")):
			t.Errorf("%d targets: %v", n, err)
		case n <= 1024 && err != nil:
			t.Errorf("%d targets: %v", n, err)
		case err == nil:
			whole(t, r.Ruleset)
		}
	}
}
