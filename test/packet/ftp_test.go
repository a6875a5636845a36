package packet

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// ftpSettings are vsftpd's, which here serves one connection that it is handed,
// as from inetd. It takes data connections only to and from the address that
// the control connection has.
const ftpSettings = `listen=NO
background=NO
run_as_launching_user=YES
one_process_model=YES
seccomp_sandbox=NO
anonymous_enable=YES
local_enable=NO
no_anon_password=YES
anon_world_readable_only=NO
ftp_username=nobody
connect_from_port_20=YES
pasv_promiscuous=NO
port_promiscuous=NO
anon_root=%s
`

// servesFTP has vsftpd answer on ports of a host, on all of its addresses. It
// offers the files one and two, which hold their names.
func servesFTP(t *testing.T, g *gateway, h *lab.Host, ports ...int) {
	t.Helper()
	lab.Require(t, lab.Binary("vsftpd"), lab.Binary("curl"))
	root := filepath.Join(g.dir, "ftp")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ftp/one": "one\n", "ftp/two": "two\n", "vsftpd.conf": fmt.Sprintf(ftpSettings, root)} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for _, port := range ports {
		for _, network := range []string{"tcp4", "tcp6"} {
			var listener net.Listener
			err := h.Do(func() (err error) {
				listener, err = net.Listen(network, fmt.Sprintf(":%d", port))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go serveFTP(ctx, h, conn, filepath.Join(g.dir, "vsftpd.conf"))
				}
			}()
		}
	}
}

// serveFTP hands a connection to vsftpd.
func serveFTP(ctx context.Context, h *lab.Host, conn net.Conn, settings string) {
	file, err := conn.(*net.TCPConn).File()
	conn.Close()
	if err != nil {
		return
	}
	defer file.Close()
	c := h.Command(ctx, "vsftpd", settings)
	c.Stdin, c.Stdout, c.Stderr = file, file, file
	_ = c.Run() // the client says what failed
}

// fetch has curl fetch both files over one control connection, the second one
// behind whatever was done to the commands for the first.
func fetch(h *lab.Host, server string, mode ...string) error {
	url := "ftp://" + server + "/"
	args := append([]string{"-sS", "--connect-timeout", "2", "-m", "10", url + "one", url + "two"}, mode...)
	out, err := h.Try("curl", args...)
	if err == nil && out != "one\ntwo\n" {
		err = fmt.Errorf("curl got %q", out)
	}
	return err
}

// ftpMode is a way to open data connections.
type ftpMode struct {
	name string
	args []string
	ipv4 bool // and not IPv6
}

func ftpActive() []ftpMode {
	return []ftpMode{
		{"PORT", []string{"-P", "-", "--disable-eprt"}, true},
		{"EPRT", []string{"-P", "-"}, false},
	}
}

func ftpPassive() []ftpMode {
	return []ftpMode{
		// The address in the answer is taken at its word.
		{"PASV", []string{"--disable-epsv", "--no-ftp-skip-pasv-ip"}, true},
		{"EPSV", nil, false},
	}
}

// dataOf are the packets that open data connections, as a host sees them.
func dataOf(h *lab.Host, control ...uint16) *lab.Capture {
	return h.Capture("eth0", func(p *lab.Packet) bool {
		for _, port := range control {
			if p.SrcPort == port || p.DstPort == port {
				return false
			}
		}
		return p.Flags == lab.SYN && !strings.HasPrefix(p.Src.String(), "fe80")
	})
}

// fetches fetches in each of the modes, and sees between which addresses the
// data connections were opened on a host.
func fetches(t *testing.T, ip family, client *lab.Host, server string, modes []ftpMode, seen *lab.Capture, src, dst string) {
	t.Helper()
	for _, m := range modes {
		if m.ipv4 && ip.v6() {
			continue
		}
		seen.Reset()
		if err := fetch(client, server, m.args...); err != nil {
			t.Errorf("%s %s %s: %v", client.Name(), m.name, server, err)
			continue
		}
		seen.Sync()
		packets := seen.Packets()
		if len(packets) < 2 {
			t.Errorf("%s %s %s: %d data connections, want 2", client.Name(), m.name, server, len(packets))
		}
		for _, p := range packets {
			if p.Src.String() != src || p.Dst.String() != dst {
				t.Errorf("%s %s %s: data from %s to %s, want from %s to %s", client.Name(), m.name, server, p.Src, p.Dst, src, dst)
			}
		}
	}
}

// failsFTP fetches in each of the modes, which must fail.
func failsFTP(t *testing.T, ip family, client *lab.Host, server string, modes []ftpMode) {
	t.Helper()
	var checks []func()
	for _, m := range modes {
		if m.ipv4 && ip.v6() {
			continue
		}
		checks = append(checks, func() {
			if _, err := client.Try("curl", append([]string{"-sS", "-m", "1", "ftp://" + server + "/one"}, m.args...)...); err == nil {
				t.Errorf("%s %s %s works", client.Name(), m.name, server)
			}
		})
	}
	together(checks...)
}

// An inside client uses a server outside, which connects back where a helper
// reads along, on the ports that the policy names.
func TestFTPThroughMasquerade(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	servesFTP(t, g, topo.Server, 21, 2121, 2222)
	seen := dataOf(topo.Server, 21, 2121, 2222)
	leaks := g.leaks(t)
	g.apply(t, zones+`
masquerade: {from: lan, to: wan, helpers: {ftp: [21, 2121]}}
`)
	each(t, func(t *testing.T, ip family) {
		for _, port := range []int{21, 2121} {
			server := at(ip.outside, port)
			fetches(t, ip, topo.LAN1, server, ftpPassive(), seen, ip.uplink, ip.outside)
			fetches(t, ip, topo.LAN1, server, ftpActive(), seen, ip.outside, ip.uplink)
		}
		fetches(t, ip, topo.LAN1, at(ip.outside, 2222), ftpPassive(), seen, ip.uplink, ip.outside)
		failsFTP(t, ip, topo.LAN1, at(ip.outside, 2222), ftpActive())
	})
	// Off unless asked for.
	g.apply(t, zones+"masquerade: {from: lan, to: wan}\n")
	each(t, func(t *testing.T, ip family) {
		fetches(t, ip, topo.LAN1, at(ip.outside, 21), ftpPassive(), seen, ip.uplink, ip.outside)
		failsFTP(t, ip, topo.LAN1, at(ip.outside, 21), ftpActive())
	})
	leaks.none(t)
	g.delete(t)
}

// A limit counts control connections, and not the data connections that belong
// to them. Timeouts stand beside the helper.
func TestFTPWithLimits(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := untouched(t, topo)
	servesFTP(t, g, topo.Server, 21)
	seen := dataOf(topo.Server, 21)
	g.apply(t, zones+`
masquerade:
  - {from: lan, to: wan, helpers: ftp, max_connections: {per_host: 1}, timeouts: {tcp: {established: 77s}}, log: true}
`)
	each(t, func(t *testing.T, ip family) {
		server := at(ip.outside, 21)
		fetches(t, ip, topo.LAN1, server, ftpPassive(), seen, ip.uplink, ip.outside)
		fetches(t, ip, topo.LAN1, server, ftpActive(), seen, ip.outside, ip.uplink)

		c, err := topo.LAN1.DialTCP(lab.Patience, server, lab.NoGreeting())
		if err != nil {
			t.Fatal(err)
		}
		fails(t, topo.LAN1, server, lab.IsTimeout, lab.NoGreeting())
		var lives []int
		for _, line := range g.heldBy(t, ip, "ftp") {
			var left int
			if words := strings.Fields(line); len(words) > 3 && words[3] == "ESTABLISHED" {
				left, _ = strconv.Atoi(words[2])
				lives = append(lives, left)
			}
		}
		if len(lives) != 1 || lives[0] > 77 || lives[0] < 60 {
			t.Errorf("flows with a helper live for %v s, want one of 77", lives)
		}
		if err := c.Abort(); err != nil {
			t.Fatal(err)
		}
	})
	g.delete(t)
}

// What a helper reads opens nothing for flows that its entry does not translate,
// though they come from the same zone and go to the same port.
func TestFTPElsewhere(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	servesFTP(t, g, topo.DMZ, 21)
	g.apply(t, zones+`
masquerade: {from: lan, to: wan, helpers: ftp}
forward:
  rules:
    - {name: control, from: lan, to: dmz, protocol: tcp, ports: 21, action: accept}
`)
	each(t, func(t *testing.T, ip family) {
		c, err := topo.LAN1.DialTCP(lab.Patience, at(ip.dmz, 21), lab.NoGreeting())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Abort(); err != nil {
			t.Error(err)
		}
		together(
			func() { failsFTP(t, ip, topo.LAN1, at(ip.dmz, 21), ftpPassive()) },
			func() { failsFTP(t, ip, topo.LAN1, at(ip.dmz, 21), ftpActive()) },
		)
	})
	g.delete(t)
}
