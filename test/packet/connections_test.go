package packet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// connection is a flow as connections list -o json shows it.
type connection struct {
	Protocol string   `json:"protocol"`
	Family   string   `json:"family"`
	State    string   `json:"state"`
	Status   []string `json:"status"`
	Before   ends     `json:"before"`
	After    ends     `json:"after"`
	Entry    string   `json:"entry"`
	Place    string   `json:"place"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Start    string   `json:"start"`
	Age      *int     `json:"age"`
	Timeout  int      `json:"timeout"`
	Sent     *counted `json:"sent"`
	Received *counted `json:"received"`
	ID       uint32   `json:"id"`
	Helper   string   `json:"helper"`
	Master   *struct {
		Protocol string `json:"protocol"`
		Before   ends   `json:"before"`
	} `json:"master"`
}

// ends are where a flow comes from and goes to.
type ends struct {
	Source          string `json:"source"`
	SourcePort      int    `json:"source_port"`
	Destination     string `json:"destination"`
	DestinationPort int    `json:"destination_port"`
	ICMPID          int    `json:"icmp_id"`
}

type counted struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func between(source, destination netip.AddrPort) ends {
	return ends{
		Source: source.Addr().String(), SourcePort: int(source.Port()),
		Destination: destination.Addr().String(), DestinationPort: int(destination.Port()),
	}
}

func (e ends) String() string {
	return fmt.Sprintf("%s>%s", at(e.Source, e.SourcePort), at(e.Destination, e.DestinationPort))
}

func (c connection) String() string {
	return fmt.Sprintf("%s %s, after %s, of %q, %q to %q, %s %v", c.Protocol, c.Before, c.After, c.Entry, c.From, c.To, c.State, c.Status)
}

// connections lists the gateway's flows, those that filter flags allow.
func (g *gateway) connections(t *testing.T, filter ...string) []connection {
	t.Helper()
	var list struct {
		FormatVersion int `json:"format_version"`
		Connections   []connection
	}
	out := g.ipmasq(t, 0, "connections list", append([]string{"-o", "json"}, filter...)...)
	if err := json.Unmarshal([]byte(out), &list); err != nil || list.FormatVersion != 1 {
		t.Fatalf("connections list: %v, version %d\n%s", err, list.FormatVersion, out)
	}
	return list.Connections
}

// attributed is a flow that is open, with what is to be said of it: what both
// of its ends know, and the entry and zones that the policy gives it.
type attributed struct {
	what            string
	protocol        string
	before, after   ends
	entry, from, to string
	tcp             *lab.Conn
	udp             *lab.UDPConn
}

// ledger is what is known of the flows that a test has opened.
type ledger struct{ flows []*attributed }

// add opens a flow and keeps it open. The entry is "" for what is nobody's.
func (l *ledger) add(t *testing.T, protocol string, h *lab.Host, remote, entry, from, to string, opts ...lab.DialOption) *attributed {
	t.Helper()
	a := &attributed{what: fmt.Sprintf("%s to %s %s", h.Name(), protocol, remote), protocol: protocol, entry: entry, from: from, to: to}
	meant := netip.MustParseAddrPort(remote)
	var seen lab.Seen
	var local netip.AddrPort
	var err error
	if protocol == "udp" {
		if a.udp, err = h.DialUDP(remote, opts...); err == nil {
			t.Cleanup(func() { a.udp.Close() })
			seen, err = a.udp.Exchange(lab.Patience, "hello")
			local = a.udp.Local()
		}
	} else {
		if a.tcp, err = h.DialTCP(lab.Patience, remote, opts...); err == nil {
			t.Cleanup(func() { a.tcp.Close() })
			seen, local = a.tcp.Seen(), a.tcp.Local()
		}
	}
	if err != nil {
		t.Errorf("%s: %v", a.what, err)
		return nil
	}
	a.before, a.after = between(local, meant), between(seen.Peer, seen.Local)
	l.flows = append(l.flows, a)
	return a
}

// both opens a flow of TCP and one of UDP.
func (l *ledger) both(t *testing.T, h *lab.Host, remote, entry, from, to string, opts ...lab.DialOption) {
	t.Helper()
	for _, protocol := range []string{"tcp", "udp"} {
		l.add(t, protocol, h, remote, entry, from, to, opts...)
	}
}

// pinged adds an echo request to an address, which became what after says.
func (l *ledger) pinged(t *testing.T, h *lab.Host, source, remote string, after ends, entry, from, to string) {
	t.Helper()
	pings(t, h, remote)
	protocol := "icmp"
	if strings.Contains(remote, ":") {
		protocol = "icmpv6"
	}
	l.flows = append(l.flows, &attributed{
		what: fmt.Sprintf("%s pings %s", h.Name(), remote), protocol: protocol,
		before: ends{Source: source, Destination: remote}, after: after, entry: entry, from: from, to: to,
	})
}

// find finds a flow in a list, by what was sent.
func (a *attributed) find(list []connection) (connection, bool) {
	i := slices.IndexFunc(list, func(c connection) bool {
		before := c.Before
		before.ICMPID = 0
		return c.Protocol == a.protocol && before == a.before
	})
	if i < 0 {
		return connection{}, false
	}
	return list[i], true
}

// check compares a list with what is known.
func (l *ledger) check(t *testing.T, list []connection) {
	t.Helper()
	for _, a := range l.flows {
		c, listed := a.find(list)
		if !listed {
			t.Errorf("%s: %s is not listed", a.what, a.before)
			continue
		}
		c.After.ICMPID = 0
		if c.After != a.after {
			t.Errorf("%s: listed as\n%s\nand became %s", a.what, c, a.after)
		}
		if c.Entry != a.entry || c.From != a.from || c.To != a.to {
			t.Errorf("%s: listed as\n%s\nwant %q, %q to %q", a.what, c, a.entry, a.from, a.to)
		}
		if placed := c.Place != ""; placed != (a.entry != "") && !strings.HasSuffix(a.entry, " default") {
			t.Errorf("%s: of %q, at %q", a.what, c.Entry, c.Place)
		}
		if want := map[bool]string{false: "ipv4", true: "ipv6"}[strings.Contains(a.before.Source, ":")]; c.Family != want {
			t.Errorf("%s: of %s", a.what, c.Family)
		}
		if a.protocol == "tcp" && c.State != "established" || a.protocol != "tcp" && c.State != "" {
			t.Errorf("%s: in state %q", a.what, c.State)
		}
		translated := func(one, other string, ports bool) bool { return one != other || ports }
		source := translated(a.before.Source, a.after.Source, a.before.SourcePort != a.after.SourcePort)
		destination := translated(a.before.Destination, a.after.Destination, a.before.DestinationPort != a.after.DestinationPort)
		if slices.Contains(c.Status, "snat") != source || slices.Contains(c.Status, "dnat") != destination {
			t.Errorf("%s: status %v, source translated %v, destination %v", a.what, c.Status, source, destination)
		}
		if a.protocol == "tcp" && (c.Timeout < 60 || c.Timeout > int((5*24*time.Hour).Seconds())) || c.Timeout < 0 {
			t.Errorf("%s: %d s are left", a.what, c.Timeout)
		}
	}
}

// counts says whether all flows of a ledger have counters, or none has.
func (l *ledger) counts(t *testing.T, list []connection, want bool) {
	t.Helper()
	for _, a := range l.flows {
		c, listed := a.find(list)
		switch {
		case !listed:
			t.Errorf("%s is not listed", a.what)
		case !want && (c.Sent != nil || c.Received != nil):
			t.Errorf("%s is counted: %+v, %+v", a.what, c.Sent, c.Received)
		case want && (c.Sent == nil || c.Received == nil):
			t.Errorf("%s is not counted", a.what)
		case want && (c.Sent.Packets == 0 || c.Received.Packets == 0 || c.Sent.Bytes < 20*c.Sent.Packets || c.Received.Bytes < 20*c.Received.Packets):
			t.Errorf("%s is counted as %+v, %+v", a.what, *c.Sent, *c.Received)
		}
	}
}
