package packet

import (
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// An outside client uses a server inside, in both modes, and at a port that is
// not FTP's own. So do inside clients at the outside address, whether or not
// they share the server's network, and the gateway itself.
func TestFTPThroughPortForward(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := untouched(t, topo)
	servesFTP(t, g, topo.LAN2, 21)
	seen := dataOf(topo.LAN2, 21)
	leaks := g.leaks(t)
	forward := func(ip family, more string) string {
		return zones + strings.NewReplacer("$to", at(ip.lan2, 21), "$more", more).Replace(`
port_forward:
  - {name: ftp, from: wan, protocol: tcp, ports: [21, 2121, 2222], to: "$to"$more}
`)
	}
	each(t, func(t *testing.T, ip family) {
		g.apply(t, forward(ip, ", helpers: {ftp: [21, 2121]}"))
		for _, port := range []int{21, 2121} {
			server := at(ip.uplink, port)
			fetches(t, ip, topo.Server, server, ftpPassive(), seen, ip.outside, ip.lan2)
			fetches(t, ip, topo.Server, server, ftpActive(), seen, ip.lan2, ip.outside)
		}
		server := at(ip.uplink, 2121)
		// Within its own network the server sees the gateway.
		fetches(t, ip, topo.LAN1, server, ftpPassive(), seen, ip.gwLAN, ip.lan2)
		fetches(t, ip, topo.LAN1, server, ftpActive(), seen, ip.lan2, ip.gwLAN)
		fetches(t, ip, topo.DMZ, server, ftpPassive(), seen, ip.dmz, ip.lan2)
		fetches(t, ip, topo.DMZ, server, ftpActive(), seen, ip.lan2, ip.dmz)
		fetches(t, ip, topo.GW, server, ftpPassive(), seen, ip.uplink, ip.lan2)
		fetches(t, ip, topo.GW, server, ftpActive(), seen, ip.lan2, ip.uplink)

		// Both ends are translated.
		g.apply(t, forward(ip, ", helpers: {ftp: 2121}, masquerade: true"))
		fetches(t, ip, topo.Server, server, ftpPassive(), seen, ip.gwLAN, ip.lan2)
		fetches(t, ip, topo.Server, server, ftpActive(), seen, ip.lan2, ip.gwLAN)
	})
	each(t, func(t *testing.T, ip family) {
		none := func(port int) {
			together(
				func() { failsFTP(t, ip, topo.Server, at(ip.uplink, port), ftpPassive()) },
				func() { failsFTP(t, ip, topo.Server, at(ip.uplink, port), ftpActive()) },
			)
		}
		// Of what no helper reads there is the control connection alone.
		g.apply(t, forward(ip, ", helpers: {ftp: [21, 2121]}"))
		none(2222)
		g.apply(t, forward(ip, ""))
		none(21)
	})
	leaks.none(t)
	g.delete(t)
}
