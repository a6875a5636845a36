package packet

import (
	"strings"
	"syscall"
	"testing"
)

// The daemon goes along with what is tried, kept and rolled back by hand.
func TestRunConfirm(t *testing.T) {
	t.Parallel()
	g := newForwarding(t)
	d := g.runs(t, g.file(t, "policy.yaml", forwards(8081)))
	d.logs(t, "ipmasq: applied")
	other := g.file(t, "other.yaml", forwards(8082))
	g.complaints(t, 0, "apply", "--confirm", "20s", other)
	d.logs(t, "another policy was applied by hand")
	g.leadsTo(t, 8082)
	// While it waits it is held in force, for no longer than it would have been,
	// and the files have to wait.
	d.wiped(t)
	g.leadsTo(t, 8082)
	g.file(t, "policy.yaml", forwards(8083))
	d.logs(t, "error: ", "is not confirmed yet")
	g.leadsTo(t, 8082)
	g.ipmasq(t, 0, "rollback")
	// What was before is in force, and then what the files have become.
	d.logs(t, "ipmasq: applied", "at another try")
	g.leadsTo(t, 8083)
	g.ipmasq(t, 0, "status")
	d.stops(t, syscall.SIGTERM)

	// From what was rolled back a start does not go forth again by itself.
	g.ipmasq(t, 0, "rollback")
	g.leadsTo(t, 8081)
	d = g.runs(t, g.dir+"/policy.yaml")
	d.logs(t, "was rolled back")
	d.tells(t, "READY=1")
	g.leadsTo(t, 8081)
	if w := g.complaints(t, 0, "status"); !strings.Contains(w, "was rolled back") {
		t.Errorf("status says\n%s", w)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.logs(t, "ipmasq: applied", "~ port_forward web")
	g.leadsTo(t, 8083)
	d.stops(t, syscall.SIGTERM)
	g.delete(t)
}
