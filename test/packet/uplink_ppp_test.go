//go:build vm

package packet

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipmasq/ipmasq/test/lab"
)

// ppp is a pppd at each end of a line.
type ppp struct {
	name    string // of the interface, at both ends
	gw, isp *lab.Cmd
}

// dial connects the gateway with its ISP, which gives it an address, and waits
// until both ends can speak IPv4 and IPv6.
func (g *gateway) dial(t *testing.T, unit int, address string) *ppp {
	t.Helper()
	line, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &ppp{name: fmt.Sprintf("ppp%d", unit)}
	common := []string{
		"notty", "nodetach", "noauth", "local", "mtu", "1492", "mru", "1492", "+ipv6", "noccp", "novj", "nodefaultroute",
		"logfd", "3", "unit", fmt.Sprint(unit),
	}
	var up [2]chan error
	for i, end := range []struct {
		host    *lab.Host
		to      **lab.Cmd
		address string
	}{
		{g.GW, &p.gw, ":" + linkISP},
		{g.ISP, &p.isp, linkISP + ":" + address},
	} {
		// Not of the test's context: the line is hung up by the test.
		c := end.host.Command(context.Background(), "pppd", append(common, end.address)...)
		*end.to = c
		tty := os.NewFile(uintptr(line[i]), "line")
		said, log, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stdin, c.Stdout, c.ExtraFiles = tty, tty, []*os.File{log}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		log.Close()
		t.Cleanup(func() { said.Close() })
		up[i] = make(chan error, 1)
		go connected(said, up[i])
	}
	for _, ready := range up {
		select {
		case err := <-ready:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(4 * lab.Patience):
			t.Fatal("the line does not come up")
		}
	}
	return p
}

// connected reads the log of a pppd, until its end, and tells when it knows
// both addresses of the other side.
func connected(said *os.File, up chan<- error) {
	var log strings.Builder
	missing := map[string]bool{"remote IP address": true, "remote LL address": true}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		before := len(missing)
		for what := range missing {
			if strings.Contains(lines.Text(), what) {
				delete(missing, what)
			}
		}
		if before > 0 && len(missing) == 0 {
			up <- nil
		}
	}
	if len(missing) > 0 {
		up <- fmt.Errorf("pppd ended:\n%s", &log)
	}
}

// hangUp ends the line from the ISP's side, and waits for both ends.
func (p *ppp) hangUp(t *testing.T) {
	t.Helper()
	if err := p.isp.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// pppd ends with a code of its own for every reason.
	_ = p.isp.Wait()
	_ = p.gw.Wait()
}

// A policy may speak of a line that is not there yet. Each time it is dialled
// it has another address, and masquerade and port forwards follow by
// themselves.
func TestVMUplinkPPP(t *testing.T) {
	for _, c := range []struct {
		name, interfaces string
		units            [2]int // of the first time and the second
		status           int    // its exit code while the line is up
	}{
		{"by name", "ppp0", [2]int{0, 0}, 0},
		{"by pattern", "ppp*", [2]int{0, 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := applied(t, rerouted(t), onlyUplink(c.interfaces))
			var flows []*lab.UDPConn // that outlive the line
			for _, ip := range families() {
				u, err := g.LAN2.DialUDP(at(ip.outside, 123))
				if err != nil {
					t.Fatal(err)
				}
				defer u.Close()
				flows = append(flows, u)
			}
			for i, own := range [2][2]string{{"192.0.2.2", "2001:db8:2::2"}, {"192.0.2.77", "2001:db8:2::77"}} {
				line := g.dial(t, c.units[i], own[0])
				g.ISP.Addr(line.name, linkISPv6+"/64")
				g.wayOut(line.name, own[1]+"/64")
				g.works(t, own[0], own[1], c.status)
				for family, u := range flows {
					if seen, err := u.Exchange(lab.Patience, "still here"); err != nil || seen.Peer.Addr().String() != own[family] {
						t.Errorf("dialled %d times: the server saw %v, %v; want %s", i+1, seen.Peer, err, own[family])
					}
				}
				line.hangUp(t)
				if g.GW.HasLink(line.name) {
					t.Fatalf("%s is still there", line.name)
				}
				g.ipmasq(t, 0, "status")
			}
			g.delete(t)
		})
	}
}

// The line takes less than the Ethernet on both sides of it: the gateway says
// so to whom it masquerades, and what it sends fills the line.
func TestVMUplinkPPPMTU(t *testing.T) {
	t.Parallel()
	g := applied(t, rerouted(t), onlyUplink("ppp0"))
	line := g.dial(t, 0, linkGW)
	g.ISP.Addr(line.name, linkISPv6+"/64")
	g.wayOut(line.name, linkGWv6+"/64")
	each(t, func(t *testing.T, ip family) {
		uplink := linkGW
		if ip.v6() {
			uplink = linkGWv6
		}
		said := g.LAN1.Capture("eth0", lab.All(lab.Incoming, lab.IsICMP))
		arrived := g.Server.Capture("eth0", lab.All(lab.Incoming, ip.tcp))
		c := opens(t, g.LAN1, at(ip.outside, 80), uplink)
		if c == nil {
			return
		}
		if err := c.Echo(2*lab.Patience, strings.Repeat("x", 100_000)); err != nil {
			t.Error(err)
		}
		if said.Sync(); said.Count() == 0 {
			t.Error("the gateway did not say that packets are too big")
		}
		arrived.Sync()
		largest := 0
		for _, p := range arrived.Packets() {
			largest = max(largest, p.Length)
		}
		if largest != 1492 {
			t.Errorf("the largest packet of %d has %d bytes, want 1492", arrived.Count(), largest)
		}
	})
	line.hangUp(t)
	g.delete(t)
}
