package packet

import (
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// dockerStarts is what Docker does to iptables when it starts: the chains of its
// own come first again, one commit after the other.
const dockerStarts = `set -e
i="$1 --wait"
$i -t nat -N DOCKER 2>/dev/null || $i -t nat -F DOCKER
$i -N DOCKER 2>/dev/null || $i -F DOCKER
for c in DOCKER-USER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2; do $i -N $c 2>/dev/null || $i -F $c; $i -A $c -j RETURN; done
$i -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
$i -t nat -I OUTPUT -m addrtype --dst-type LOCAL ! --dst 127.0.0.0/8 -j DOCKER
$i -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
$i -P FORWARD DROP
$i -I FORWARD -i docker0 -o docker0 -j ACCEPT
$i -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
$i -I FORWARD -o docker0 -j DOCKER
$i -I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
$i -I FORWARD -j DOCKER-ISOLATION-STAGE-1
$i -I FORWARD -j DOCKER-USER
`

// What others do to rules of iptables is put right, and said: in the nft variant
// with who it was. What is theirs is left alone. What is open goes on.
func TestRunDriftIPTables(t *testing.T) {
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			topo := lab.Gateway(t, lab.WithoutGuest())
			for _, port := range []string{":8081", ":8082"} {
				topo.LAN1.ServeTCP(port, lab.As("port"+port[1:]))
			}
			answering(topo.Server)
			s := newSwitching(t, topo)
			six := "ip6" + strings.TrimPrefix(variant, "ip")
			d := s.runs(t, s.policy(t, variant, strings.TrimPrefix(forwards(8081), "version: 1\n")))
			d.logs(t, "ipmasq: applied")
			s.holds(t, variant)
			s.leadsTo(t, 8081)
			var open []*lab.Conn
			for _, ip := range families() {
				open = append(open, opens(t, s.LAN1, at(ip.outside, 80), ip.uplink))
			}
			who := func(names ...string) []string {
				if variant == "iptables-legacy" {
					return []string{"another program"}
				}
				return names
			}
			foreign := "*nat\n:OTHER - [0:0]\n-A POSTROUTING -s 10.9.9.0/24 -j OTHER\n-A OTHER -j MASQUERADE\nCOMMIT\n*filter\n-A FORWARD -s 10.9.9.0/24 -j ACCEPT\nCOMMIT\n"
			for _, c := range []struct {
				name string
				do   func()
				by   []string
			}{
				{"flush", func() { s.GW.Run(t, variant, "-F") }, who("iptables")},
				{"flush of nat", func() { s.GW.Run(t, variant, "-t", "nat", "-F") }, who("iptables")},
				{"flush of IPv6", func() { s.GW.Run(t, six, "-F") }, who("ip6tables")},
				{"a rule of ours", func() { s.GW.Run(t, variant, "-D", "FORWARD", "1") }, who("iptables")},
				{"a rule in a chain of ours", func() { s.GW.Run(t, variant, "-I", "IPMASQ-forward", "-j", "DROP") }, who("iptables")},
				{"a rule before ours", func() { s.GW.Run(t, variant, "-I", "FORWARD", "-s", "192.168.1.0/24", "-j", "DROP") }, who("iptables")},
				{"a restore", func() { s.GW.Feed(t, foreign, variant+"-restore") }, who("iptables")},
				{"Docker", func() { s.GW.Run(t, "sh", "-c", dockerStarts, "docker", variant) }, who("iptables")},
				{"Docker once more", func() { s.GW.Run(t, "sh", "-c", dockerStarts, "docker", variant) }, who("iptables")},
			} {
				c.do()
				d.logs(t, append(c.by, "the chains of ipmasq in "+variant, "put ")...)
				if !within(func() bool { _, err := s.GW.Try(s.program, "status", "--state-dir", s.dir+"/state"); return err == nil }) {
					t.Errorf("%s is not put right: %s", c.name, s.complaints(t, 2, "status"))
				}
				s.leadsTo(t, 8081)
				for i, ip := range families() {
					opens(t, s.LAN1, at(ip.outside, 80), ip.uplink).Close()
					if err := open[i].Echo(lab.Patience, "still here"); err != nil {
						t.Errorf("%s: the open connection of %s: %v", c.name, ip.name, err)
					}
				}
			}
			saved := s.GW.Run(t, variant+"-save")
			for _, theirs := range []string{"-A POSTROUTING -s 10.9.9.0/24 -j OTHER", "-A FORWARD -j DOCKER-USER", "-A FORWARD -s 10.9.9.0/24 -j ACCEPT"} {
				if !strings.Contains(saved, theirs) {
					t.Errorf("%s is gone", theirs)
				}
			}

			// What is behind ours, or elsewhere, is nobody's business here.
			said := d.said()
			s.GW.Run(t, variant, "-A", "FORWARD", "-s", "10.9.8.0/24", "-j", "ACCEPT")
			s.GW.Run(t, variant, "-t", "nat", "-A", "OTHER", "-s", "10.9.8.0/24", "-j", "RETURN")
			s.GW.Run(t, "nft", "add table inet other")
			s.leadsTo(t, 8081)
			s.holds(t, variant)
			if now := d.said(); now != said {
				t.Errorf("the daemon minds other's rules:\n%s", now[len(said):])
			}

			// The files may name another backend, and drift is found there; and back.
			leaked := s.ISP.Count("eth0", lab.All(lab.Incoming, lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))))
			s.GW.Run(t, variant, "-P", "FORWARD", "ACCEPT")
			named := "policy-iptables.yaml"
			s.replace(t, named, forwards(8082))
			d.logs(t, "ipmasq: applied")
			s.leadsTo(t, 8082)
			s.holds(t, "nftables")
			s.GW.Run(t, "nft", "insert", "rule", "inet", "ipmasq", "forward", "drop")
			d.logs(t, "nft (pid ", "changed the table inet ipmasq", "put right")
			s.leadsTo(t, 8082)
			s.replace(t, named, strings.Replace(forwards(8081), "version: 1\n", "version: 1\ngateway: {backend: iptables}\n", 1))
			d.logs(t, "ipmasq: applied")
			s.leadsTo(t, 8081)
			s.holds(t, variant)
			for i, ip := range families() {
				if err := open[i].Echo(lab.Patience, "still here"); err != nil {
					t.Errorf("the open connection of %s: %v", ip.name, err)
				}
				open[i].Close()
			}
			s.Settle()
			leaked.Sync()
			if leaked.Count() > 0 {
				t.Errorf("%d packets left with an inside source: %v", leaked.Count(), leaked)
			}
			d.stops(t, syscall.SIGTERM)
			s.gone(t)
		})
	}
}
