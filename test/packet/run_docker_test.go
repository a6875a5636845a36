package packet

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The daemon notices that Docker comes, that it makes its chains anew, and that
// somebody takes our rules out of them.
func TestRunDocker(t *testing.T) {
	for _, xt := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(xt, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.Binary(xt+"-restore"), lab.Binary("ip6"+strings.TrimPrefix(xt, "ip")+"-restore"))
			h := newDockerHost(t, "", false)
			h.xt = xt
			open := containerWays("lan to outside", "outside to the port forward")
			d := h.runs(t, h.file(t, "policy.yaml", "version: 1\n"+dockerPolicy+dockerAccept))
			d.logs(t, "ipmasq: applied")
			h.startDocker(t, true)
			for _, change := range [][]string{
				nil, // it has come
				{"-F", "DOCKER-USER"},
				{"-D", "DOCKER-USER", "1"},
			} {
				if change != nil {
					for _, ipv6 := range []bool{false, true} {
						h.GW.Run(t, h.tool(ipv6), change...)
					}
				}
				h.settles(t)
				each(t, func(t *testing.T, ip family) {
					h.wants(t, ip, strings.Join(append([]string{"after"}, change...), " "), open...)
				})
			}
			// A restart: all chains go, and come again.
			for _, ipv6 := range []bool{false, true} {
				h.GW.Run(t, h.tool(ipv6), "-F")
				h.GW.Run(t, h.tool(ipv6), "-X")
			}
			h.startDocker(t, true)
			h.settles(t)
			each(t, func(t *testing.T, ip family) { h.wants(t, ip, "after a restart", open...) })
			said := d.said()
			d.stops(t, syscall.SIGTERM)
			if n := strings.Count(said, "put right"); n < 4 {
				t.Errorf("the daemon has put %d changes right, and there were 4:\n%s", n, said)
			}
			if slices.ContainsFunc(strings.Split(said, "\n"), func(line string) bool { return strings.Contains(line, "inet ipmasq") }) {
				t.Errorf("the daemon says\n%s", said)
			}
			h.ipmasq(t, 0, "delete")
			if now := h.dockers(t); strings.Contains(now, "ipmasq") {
				t.Errorf("delete left\n%s", now)
			}
		})
	}
}

// settles waits until nothing is left to be put right.
func (h *dockerHost) settles(t *testing.T) {
	t.Helper()
	if !within(func() bool {
		return exec.Command(h.program, "status", "--netns", h.GW.NetNS(), "--state-dir", h.dir+"/state").Run() == nil
	}) {
		h.ipmasq(t, 0, "status")
	}
}
