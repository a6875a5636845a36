package packet

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// mss is the maximum segment size that a SYN names, or 0.
func mss(p lab.Packet) int {
	header := 20
	if p.Src.Is6() {
		header = 40
	}
	for o := p.IP[header+20 : len(p.IP)-len(p.Payload)]; len(o) > 1; {
		switch {
		case o[0] == 1:
			o = o[1:]
		case o[0] == 2 && len(o) >= 4:
			return int(o[2])<<8 | int(o[3])
		case o[0] == 0 || o[1] < 2 || int(o[1]) > len(o):
			return 0
		default:
			o = o[o[1]:]
		}
	}
	return 0
}

// sizes opens a connection, and gives what the SYN that arrives at the server
// names, and the SYN-ACK that arrives at the client.
func sizes(t *testing.T, client, server *lab.Host, remote string) (syn, synAck int) {
	t.Helper()
	there := server.Capture("eth0", lab.All(lab.Incoming, lab.HasFlags(lab.SYN)))
	back := client.Capture("eth0", lab.All(lab.Incoming, lab.HasFlags(lab.SYN|lab.ACK)))
	defer there.Stop()
	defer back.Stop()
	c, err := client.DialTCP(lab.Patience, remote)
	if err != nil {
		t.Errorf("%s opens %s: %v", client.Name(), remote, err)
		return 0, 0
	}
	c.Close()
	p, err := there.Wait(1, lab.Patience)
	q, errBack := back.Wait(1, lab.Patience)
	if err != nil || errBack != nil {
		t.Fatalf("%s opens %s: %v, %v", client.Name(), remote, err, errBack)
	}
	return mss(p[0]), mss(q[0])
}

// The segment size is lowered in both SYNs of what goes to the zone and of what
// comes from it, and nowhere else.
func TestMSSClamp(t *testing.T) {
	for _, c := range []struct {
		name, key string
		uplink    int    // MTU
		want      [2]int // by family
	}{
		{"number", "1300", 1500, [2]int{1300, 1300}},
		{"path MTU", "pmtu", 1400, [2]int{1360, 1340}},
		{"larger than what is there", "4000", 1500, [2]int{1460, 1440}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutGuest())
			answering(topo.Server, topo.DMZ)
			topo.GW.SetMTU("eth0", c.uplink)
			g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  dmz: {interfaces: [eth2], networks: [192.168.2.0/24, "fd00:2::/64"]}
  wan: {interfaces: ["eth0*"], mss_clamp: `+c.key+`}
masquerade: [{from: lan, to: wan}]
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: 192.168.2.10}
  - {name: web6, from: wan, protocol: tcp, ports: 80, to: "fd00:2::10"}
forward: {rules: [{from: lan, to: dmz, action: accept}]}
`)
			i := 0
			each(t, func(t *testing.T, ip family) {
				whole := 1500 - ip.headers - 20
				for _, try := range []struct {
					what           string
					client, server *lab.Host
					remote         string
					want           int
				}{
					{"to the zone", g.LAN1, g.Server, ip.outside, c.want[i]},
					{"from the zone", g.Server, g.DMZ, ip.uplink, c.want[i]},
					{"elsewhere", g.LAN1, g.DMZ, ip.dmz, whole},
				} {
					if syn, synAck := sizes(t, try.client, try.server, at(try.remote, 80)); syn != try.want || synAck != try.want {
						t.Errorf("%s: SYN %d, SYN-ACK %d; want %d", try.what, syn, synAck, try.want)
					}
				}
				// What is small stays so, and what names none is let be.
				seen := g.Server.Capture("eth0", lab.All(lab.Incoming, lab.IsTCP, lab.DstPort(9)))
				for port, size := range []uint16{0, 500} {
					topo.LAN1.SendPacket("eth0", lab.TCP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 700 + uint16(port), DstPort: 9, Flags: lab.SYN, MSS: size}.Bytes())
				}
				packets, err := seen.Wait(2, lab.Patience)
				if err != nil || mss(packets[0]) != 0 || mss(packets[1]) != 500 {
					t.Errorf("%v, %v: want none and 500", seen, err)
				}
				i++
			})
			g.delete(t)
		})
	}
}

// A zone inside another has its own setting, or none; between two zones that
// have one, the lower counts.
func TestMSSClampZones(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	answering(topo.Server, topo.DMZ)
	g := applied(t, topo, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"], mss_clamp: 1200}
  host: {interfaces: [eth1], networks: [192.168.1.11, "fd00:1::11"]}
  dmz: {interfaces: [eth2], mss_clamp: 1000}
  wan: {interfaces: [eth0]}
masquerade: [{from: [lan, host], to: wan}]
forward: {rules: [{from: [lan, host], to: dmz, action: accept}]}
`)
	each(t, func(t *testing.T, ip family) {
		whole := 1500 - ip.headers - 20
		for _, try := range []struct {
			client, server *lab.Host
			remote         string
			want           int
		}{{g.LAN1, g.Server, ip.outside, 1200}, {g.LAN2, g.Server, ip.outside, whole}, {g.LAN1, g.DMZ, ip.dmz, 1000}, {g.LAN2, g.DMZ, ip.dmz, 1000}} {
			if syn, synAck := sizes(t, try.client, try.server, at(try.remote, 80)); syn != try.want || synAck != try.want {
				t.Errorf("%s to %s: SYN %d, SYN-ACK %d; want %d", try.client.Name(), try.server.Name(), syn, synAck, try.want)
			}
		}
	})
	g.delete(t)
}

// Behind an uplink with a smaller MTU, where the errors that tell of it get
// lost, a large answer comes through with mss_clamp and never without.
func TestMSSClampBlackHole(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	const size = 1 << 20
	topo.Server.ServeTCP(":9000", lab.ServeBytes(size))
	for _, h := range []*lab.Host{topo.Server, topo.ISP, topo.LAN1} {
		h.NoOffload("eth0")
	}
	topo.ISP.NoOffload("eth1")
	topo.ISP.SetMTU("eth0", 1400)
	topo.GW.SetMTU("eth0", 1400)
	topo.Server.Run(t, "nft", "add table inet lost; add chain inet lost input { type filter hook input priority 0; }; "+
		"add rule inet lost input icmp type destination-unreachable drop; add rule inet lost input icmpv6 type packet-too-big drop")
	policy := func(more string) string {
		return `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]` + more + `}
masquerade: [{from: lan, to: wan}]
`
	}
	download := func(t *testing.T, ip family, within time.Duration) int64 {
		c := opens(t, topo.LAN1, at(ip.outside, 9000), ip.uplink)
		if c == nil {
			return 0
		}
		n, err := c.Download(within)
		t.Logf("%d bytes, %v", n, err)
		return n
	}
	g := applied(t, topo, policy(""))
	each(t, func(t *testing.T, ip family) {
		if n := download(t, ip, time.Second); n == size {
			t.Error("nothing is lost: this proves nothing")
		}
	})
	g.apply(t, policy(", mss_clamp: pmtu"))
	each(t, func(t *testing.T, ip family) {
		if n := download(t, ip, lab.Patience); n != size {
			t.Errorf("%d bytes came", n)
		}
	})
	g.delete(t)
}
