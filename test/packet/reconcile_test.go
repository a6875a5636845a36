package packet

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// reconciled is a gateway whose policy changes under open flows. One of them,
// from the dmz, has nothing to do with any change.
type reconciled struct {
	*gateway
	ip      family
	calm    *lab.Conn
	id      string // of the calm flow, as conntrack has it
	packets int
}

// calm is what every policy here begins with: the zones, and the list of
// masquerades with the one for the calm flow.
const calm = zones + `
masquerade:
  - {name: calm, from: dmz, to: wan}
`

// reconciling applies a policy and opens the flow that is to stay.
func reconciling(t *testing.T, ip family, policy string, opts ...lab.GatewayOption) *reconciled {
	t.Helper()
	topo := lab.Gateway(t, opts...)
	lab.Require(t, lab.Binary("conntrack"))
	topo.GW.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	topo.Server.ServeTCP(":7777")
	r := &reconciled{gateway: untouched(t, topo), ip: ip}
	if policy != "" {
		r.apply(t, policy)
		r.hold(t)
	}
	return r
}

func (r *reconciled) hold(t *testing.T) {
	t.Helper()
	r.calm = opens(t, r.DMZ, at(r.ip.outside, 7777), r.ip.uplink)
	carries(t, r.calm)
	r.id, r.packets = r.tracked(t)
}

// tracked is the calm flow's ID in the kernel's table and its packets.
func (r *reconciled) tracked(t *testing.T) (id string, packets int) {
	t.Helper()
	f := "ipv4"
	if r.ip.v6() {
		f = "ipv6"
	}
	for line := range strings.Lines(r.GW.Run(t, "conntrack", "-L", "-f", f, "-p", "tcp", "--dport", "7777", "-o", "id")) {
		if strings.Contains(line, "src="+r.ip.dmz+" ") {
			for _, n := range regexp.MustCompile(`packets=(\d+)`).FindAllStringSubmatch(line, -1) {
				packets += atoi(n[1])
			}
			return regexp.MustCompile(`id=\d+`).FindString(line), packets
		}
	}
	return "gone", 0
}

// undisturbed sees that the calm flow is the very one that it was, and goes on.
func (r *reconciled) undisturbed(t *testing.T) {
	t.Helper()
	id, packets := r.tracked(t)
	if id != r.id || packets < r.packets {
		t.Errorf("the calm flow was %s with %d packets, is %s with %d", r.id, r.packets, id, packets)
	}
	r.packets = packets
	carries(t, r.calm)
}

// cutting is what plan and apply say of flows.
type cutting struct {
	Different bool `json:"different"`
	Total     int  `json:"flows_cut"`
	By        []struct {
		Entry, Reason string
		Flows         int
	} `json:"flows_cut_by"`
	Flows []struct {
		Flow          struct{ Protocol, Family string }
		Entry, Reason string
	} `json:"flows_cut_first"`
}

// said is a cutting in short: how many flows by entry and reason.
func (c *cutting) said() map[string]int {
	out := map[string]int{}
	for _, by := range c.By {
		out[by.Entry+": "+by.Reason] += by.Flows
	}
	return out
}

// write writes a policy file.
func (r *reconciled) write(t *testing.T, policy string) string {
	t.Helper()
	file := filepath.Join(r.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// reports runs plan or apply for what it says of flows.
func (r *reconciled) reports(t *testing.T, code int, command, policy string, flags ...string) *cutting {
	t.Helper()
	out := r.ipmasq(t, code, command, append(flags, "-o", "json", r.write(t, policy))...)
	c := &cutting{}
	if err := json.Unmarshal([]byte(out), c); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if len(c.Flows) != c.Total {
		t.Errorf("%s lists %d flows of %d\n%s", command, len(c.Flows), c.Total, out)
	}
	return c
}

// changes plans and applies a policy that differs. Both say which flows that
// cuts: so many of each entry, and no others.
func (r *reconciled) changes(t *testing.T, policy string, want map[string]int) {
	t.Helper()
	planned := r.reports(t, 2, "plan", policy)
	r.undisturbed(t)
	done := r.reports(t, 0, "apply", policy)
	if !maps.Equal(planned.said(), done.said()) {
		t.Errorf("plan says %v, apply %v", planned.said(), done.said())
	}
	if !maps.Equal(done.said(), want) {
		t.Errorf("cut %v, want %v\n%v", done.said(), want, done.Flows)
	}
	r.undisturbed(t)
	if again := r.reports(t, 0, "apply", policy); again.Different || again.Total != 0 {
		t.Errorf("applied again: %+v", again)
	}
	r.ipmasq(t, 0, "plan", filepath.Join(r.dir, "policy.yaml"))
}

// speaker is a server of TCP that speaks when the test says so.
type speaker struct{ accepted chan net.Conn }

func speaks(t *testing.T, h *lab.Host, port int) *speaker {
	t.Helper()
	var listener net.Listener
	if err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &speaker{make(chan net.Conn, 16)}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted <- c
		}
	}()
	return s
}

// meets opens a connection, and gives both of its ends.
func (s *speaker) meets(t *testing.T, h *lab.Host, remote string) (client, server net.Conn) {
	t.Helper()
	c, err := h.DialTCP(lab.Patience, remote, lab.NoGreeting())
	if err != nil {
		t.Fatalf("%s opens %s: %v", h.Name(), remote, err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	select {
	case server = <-s.accepted:
	case <-time.After(lab.Patience):
		t.Fatal("nobody was met")
	}
	t.Cleanup(func() { _ = server.(*net.TCPConn).SetLinger(0); server.Close() })
	return c, server
}

// utters sends a text from one end, and gives what the other one hears.
func utters(t *testing.T, from, to net.Conn, text string, within time.Duration) string {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Errorf("say %q: %v", text, err)
	}
	_ = to.SetReadDeadline(time.Now().Add(within))
	heard := make([]byte, 100)
	n, _ := to.Read(heard)
	return string(heard[:n])
}

// tells sends a text from one end to the other.
func tells(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	if heard := utters(t, from, to, text, lab.Patience); heard != text {
		t.Errorf("said %q, heard %q", text, heard)
	}
}

// deaf sees that what one end says does not come to the other.
func deaf(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	if heard := utters(t, from, to, text, lab.Silence); heard != "" {
		t.Errorf("heard %q", heard)
	}
}

// answered sees where a socket that goes on sending is answered from, now.
func answered(t *testing.T, u *lab.UDPConn, target string) {
	t.Helper()
	seen, err := u.Exchange(lab.Patience, "again")
	if err != nil || seen.Local.String() != target {
		t.Errorf("%s is answered at %s, %v; want %s", u.Local(), seen.Local, err, target)
	}
}

// leavesAs sees which address the other side sees of a socket now.
func leavesAs(t *testing.T, u *lab.UDPConn, peer string) {
	t.Helper()
	seen, err := u.Exchange(lab.Patience, "again")
	if err != nil || seen.Peer.Addr().String() != peer {
		t.Errorf("%s leaves as %s, %v; want %s", u.Local(), seen.Peer, err, peer)
	}
}

// unanswered sees that a socket is answered no more.
func unanswered(t *testing.T, u *lab.UDPConn) {
	t.Helper()
	if seen, err := u.Exchange(lab.Silence, "again"); err == nil {
		t.Errorf("%s is still answered, at %s", u.Local(), seen.Local)
	}
}

// socket opens a socket of UDP that stays.
func socket(t *testing.T, h *lab.Host, remote string, opts ...lab.DialOption) *lab.UDPConn {
	t.Helper()
	u, err := h.DialUDP(remote, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// eachApart runs a test in both families side by side, each with a network of
// its own.
func eachApart(t *testing.T, f func(t *testing.T, ip family)) {
	t.Helper()
	t.Parallel()
	for _, ip := range families() {
		t.Run(ip.name, func(t *testing.T) { t.Parallel(); f(t, ip) })
	}
}
