package packet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A rule that drops or rejects, in front of what let a flow pass.
func TestReconcileForwardRules(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		base := calm + "  - {name: lan, from: lan, to: wan}\n"
		r := reconciling(t, ip, base+"forward: {rules: [{name: lan-dmz, from: lan, to: dmz, action: accept}]}\n")
		listens(r.Server, 80, 25)
		listens(r.DMZ, 80)
		mail, web, inner := socket(t, r.LAN1, at(ip.outside, 25)), socket(t, r.LAN1, at(ip.outside, 80)), socket(t, r.LAN1, at(ip.dmz, 80))
		leavesAs(t, mail, ip.uplink)
		leavesAs(t, web, ip.uplink)
		leavesAs(t, inner, ip.lan1)
		c := opens(t, r.LAN2, at(ip.outside, 25), ip.uplink)
		r.changes(t, base+`forward:
  rules:
    - {name: no-mail, from: lan, to: wan, protocol: udp, ports: 25, action: drop}
    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}
`, map[string]int{
			"masquerade lan: would be dropped by forward no-mail": 1, "masquerade lan: would be rejected by forward no-smtp": 1, "forward default: would be dropped": 1,
		})
		together(
			func() { unanswered(t, mail) },
			func() { unanswered(t, inner) },
			func() {
				if c.Echo(lab.Silence, "there?") == nil {
					t.Error("the connection goes on")
				}
			},
		)
		leavesAs(t, web, ip.uplink)
	})
}

// What reaches the gateway itself is cut too, but not the session that the
// command is run over.
func TestReconcileInput(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, calm)
		r.GW.ServeTCP(":22")
		r.GW.ServeUDP(":53")
		session, other := opens(t, r.LAN1, at(ip.gwLAN, 22), ip.lan1), opens(t, r.LAN2, at(ip.gwLAN, 22), ip.lan2)
		u := socket(t, r.LAN1, at(ip.gwLAN, 53))
		answered(t, u, at(ip.gwLAN, 53))
		own := socket(t, r.GW, at(ip.outside, 53)) // the gateway's own pass by input
		r.Server.ServeUDP(":53")
		leavesAs(t, own, ip.uplink)

		file := filepath.Join(r.dir, "closed.yaml")
		if err := os.WriteFile(file, []byte("version: 1\n"+calm+"input: {default: drop}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(r.program, "apply", "--netns", r.GW.NetNS(), "--state-dir", r.dir+"/state", file)
		cmd.Env = append(os.Environ(), fmt.Sprintf("SSH_CONNECTION=%s %d %s 22", ip.lan1, session.Local().Port(), ip.gwLAN))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "cut 2 flows: 2 of input default, which would be dropped\n") {
			t.Errorf("apply: %v\n%s", err, out)
		}
		if !strings.Contains(string(out), "lets in no new connection like the one that the command runs over") {
			t.Errorf("no warning\n%s", out)
		}
		r.undisturbed(t)
		carries(t, session)
		leavesAs(t, own, ip.uplink)
		together(func() { unanswered(t, u) }, func() {
			if other.Echo(lab.Silence, "there?") == nil {
				t.Error("the other connection goes on")
			}
		})
		fails(t, r.LAN1, at(ip.gwLAN, 22), lab.IsTimeout)
	})
}
