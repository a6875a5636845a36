package iptables

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/plan"
)

// What a rule has counted comes back from its comment, and the rule with it.
func TestCarried(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entry, counter string
		kept           bool
	}{
		{"masquerade nat", "+masquerade nat", true},
		{"masquerade nat", "leak_stopped_nat", true},
		{"", "sent", true},
		{`it's "a" \ b`, "c", true},
		{"forward a =1:2", "x", true},
		{"forward x", "", false},
		{"forward a =1:2", "", false},
		{strings.Repeat("x", 125), strings.Repeat("y", 124), false}, // no room
		{"", "", false},
	} {
		rule := "-A IPMASQ-forward -i eth0 " + comment(c.entry, c.counter) + " -j ACCEPT"
		want := plan.Count{Packets: 12, Bytes: 3456}
		out := carried([]byte("*filter\n:IPMASQ-forward - [0:0]\n[12:3456] " + rule + "\n" + rule + "\nCOMMIT\n"))
		lines := strings.Split(string(out), "\n")
		if len(lines) != 6 || lines[0] != "*filter" || lines[1] != ":IPMASQ-forward - [0:0]" || lines[3] != rule || lines[4] != "COMMIT" {
			t.Errorf("%s, %s: it became\n%s", c.entry, c.counter, out)
			continue
		}
		if len(commentOf(lines[2])) > longestComment {
			t.Errorf("%s, %s: too long", c.entry, c.counter)
		}
		count, without := uncarried(plan.Count{Packets: 1, Bytes: 40}, []byte(lines[2]))
		if !c.kept {
			want = plan.Count{}
		}
		if string(without) != rule || count.Packets != want.Packets+1 || count.Bytes != want.Bytes+40 {
			t.Errorf("%s, %s: read as %s, %+v", c.entry, c.counter, without, count)
		}
	}
}

// What others write is not ours to read.
func TestUncarriedOfOthers(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		`-A X -m comment --comment "a =1:2" -j ACCEPT`, `-A X -m comment --comment "a #b =1" -j ACCEPT`, `-A X -m comment --comment "a #b =x:2" -j ACCEPT`,
		`-A X -m string --string " =1:2" -j DROP`, `-A X -m comment --comment a -m string --string " =1:2"`, `-A X -m comment --comment "open =1:2`,
	} {
		if count, out := uncarried(plan.Count{}, []byte(rule)); string(out) != rule || count != (plan.Count{}) {
			t.Errorf("%s was read as %s, %+v", rule, out, count)
		}
	}
}
