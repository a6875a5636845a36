package packet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

// switching is a gateway that has every backend.
type switching struct {
	*gateway
	plain string // the program
}

func newSwitching(t *testing.T, topo *lab.Topology) *switching {
	t.Helper()
	if chosen(t) != "" {
		t.Skip("not with iptables alone: the test has all backends")
	}
	lab.Require(t, lab.Binary("iptables-legacy"), lab.Binary("iptables-nft"))
	g := untouched(t, topo)
	return &switching{g, g.program}
}

// policy writes a policy for a backend, and has the program find it: for a variant
// of iptables it is what the host calls iptables.
func (s *switching) policy(t *testing.T, backend, text string) string {
	t.Helper()
	name := backend
	if backend != "nftables" {
		name = "iptables"
		s.chooses(t, backend)
	}
	return s.file(t, "policy-"+name+".yaml", "version: 1\ngateway: {backend: "+name+"}\n"+text)
}

// chooses makes a variant what the host calls iptables.
func (s *switching) chooses(t *testing.T, backend string) {
	t.Helper()
	bin := filepath.Join(s.dir, "bin-"+backend)
	variant.Links(t, bin, backend)
	s.program = filepath.Join(bin, "ipmasq")
	script := fmt.Sprintf("#!/bin/sh\nPATH=%s:$PATH\nexport PATH\nexec %s \"$@\"\n", bin, s.plain)
	if err := os.WriteFile(s.program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// holders are the backends that hold rules of ipmasq's, as their own tools have
// it.
func (s *switching) holders(t *testing.T) (out []string) {
	t.Helper()
	if strings.Contains(s.GW.Run(t, "nft", "list", "tables"), "inet ipmasq") {
		out = append(out, "nftables")
	}
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		if strings.Contains(s.GW.Run(t, variant+"-save")+s.GW.Run(t, "ip6"+strings.TrimPrefix(variant, "ip")+"-save"), "IPMASQ") {
			out = append(out, variant)
		}
	}
	return out
}

// holds sees that one backend, or none, has all, and that status says so.
func (s *switching) holds(t *testing.T, backend string) {
	t.Helper()
	var want []string
	if backend != "" {
		want = []string{backend}
	}
	if got := s.holders(t); !slices.Equal(got, want) {
		t.Errorf("rules are in %v, want %v", got, want)
	}
	if backend == "" {
		return
	}
	var status struct {
		Backend string   `json:"backend"`
		InForce bool     `json:"in_force"`
		Left    []string `json:"left_in"`
	}
	out := s.ipmasq(t, 0, "status", "-o", "json") // no drift
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatal(err)
	}
	if status.Backend != backend || !status.InForce || len(status.Left) > 0 {
		t.Errorf("status says %+v, want %s", status, backend)
	}
}

// gone sees that delete leaves nothing anywhere.
func (s *switching) gone(t *testing.T) {
	t.Helper()
	s.ipmasq(t, 0, "delete")
	s.holds(t, "")
	if left := s.sysctls(t); left != s.sysctl {
		t.Errorf("delete left sysctls behind\n%s", difference(s.sysctl, left))
	}
}

// everyWay goes from each backend to each other one.
func everyWay() []string {
	return []string{"iptables-nft", "iptables-legacy", "nftables", "iptables-legacy", "iptables-nft", "nftables"}
}

// traffic is what must not feel anything: an open flow of each family at a steady
// rate, new connections, one from outside and one from inside that stay, packets
// that must not pass, and such that must not leave as they are.
type traffic struct {
	topo                    *lab.Topology
	cancel                  context.CancelFunc
	group                   sync.WaitGroup
	opened, echoed          atomic.Int64
	streams, blocks, resets []*lab.Load
	arrived, passed, leaked *lab.Capture
}

func disturb(t *testing.T, topo *lab.Topology) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	x := &traffic{topo: topo, cancel: cancel}
	t.Cleanup(cancel)
	server := topo.Server.ServeUDP(":7000")
	each(t, func(t *testing.T, ip family) {
		if _, err := topo.LAN1.UDPExchange(at(ip.lan1, 7001), at(ip.outside, 7000), "hello", lab.Patience); err != nil {
			t.Fatal(err)
		}
	})
	server.Close()
	mute(t, topo.Server, 7000)
	inside := lab.Any(lab.SrcIn("192.168.0.0/16"), lab.SrcIn("fd00::/8"))
	x.arrived = topo.Server.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(7000), lab.Any(lab.SrcIn(lab.GatewayUplink+"/32"), lab.SrcIn(lab.GatewayUplinkv6+"/128"))))
	x.leaked = topo.ISP.Count("eth0", lab.All(lab.Incoming, inside))
	topo.Neighbor.Route("192.168.1.0/24", lab.GatewayUplink)
	topo.Neighbor.Route("fd00:1::/64", lab.GatewayUplinkv6)
	x.passed = topo.LAN2.Count("eth0", lab.All(lab.Incoming, lab.IsUDP, lab.DstPort(9), lab.Any(lab.SrcIn(lab.Neighbor+"/32"), lab.SrcIn(lab.Neighborv6+"/128"))))
	topo.Server.ServeTCP(":80")
	for _, ip := range families() {
		stream := lab.UDP{Header: lab.Between(ip.lan1, ip.outside), SrcPort: 7001, DstPort: 7000, Payload: make([]byte, 100)}.Bytes()
		block := lab.UDP{Header: lab.Between(ip.neighbor, ip.lan2), SrcPort: 9, DstPort: 9, Payload: make([]byte, 100)}.Bytes()
		reset := lab.TCP{Header: lab.Between(ip.lan2, ip.outside), SrcPort: 999, DstPort: 443, Flags: lab.RST}.Bytes()
		x.streams = append(x.streams, topo.LAN1.StartFlood(ctx, "eth0", stream, 2000))
		x.blocks = append(x.blocks, topo.Neighbor.StartFlood(ctx, "eth0", block, 2000))
		x.resets = append(x.resets, topo.LAN2.StartFlood(ctx, "eth0", reset, 1000))
		x.group.Go(func() {
			for ctx.Err() == nil {
				c, err := topo.LAN2.DialTCP(lab.Patience, at(ip.outside, 80))
				if err != nil {
					t.Errorf("%s: connection %d: %v", ip.name, x.opened.Load()+1, err)
					return
				}
				c.Abort()
				x.opened.Add(1)
			}
		})
		for from, to := range map[*lab.Host]string{topo.LAN1: at(ip.outside, 80), topo.Server: at(ip.uplink, 80)} {
			long, err := from.DialTCP(lab.Patience, to)
			if err != nil {
				t.Fatal(err)
			}
			x.group.Go(func() {
				defer long.Close()
				for ctx.Err() == nil {
					if err := long.Echo(lab.Patience, "still here"); err != nil {
						t.Errorf("%s: the long connection to %s, after %d round trips: %v", ip.name, to, x.echoed.Load(), err)
						return
					}
					x.echoed.Add(1)
				}
			})
		}
	}
	return x
}

// ends stops all and says what was felt.
func (x *traffic) ends(t *testing.T) {
	t.Helper()
	x.cancel()
	x.group.Wait()
	sum := func(of []*lab.Load) (n int64) {
		for _, f := range of {
			sent, err := f.Stop()
			if err != nil {
				t.Fatal(err)
			}
			n += sent
		}
		return n
	}
	sent, blocks, resets := sum(x.streams), sum(x.blocks), sum(x.resets)
	x.topo.Settle()
	x.arrived.Sync()
	x.passed.Sync()
	x.leaked.Sync()
	t.Logf("of open flows %d of %d packets arrived; of forbidden ones %d of %d; %d left untranslated, of %d that nothing translates and all others; %d new connections, %d round trips on long ones",
		x.arrived.Count(), sent, x.passed.Count(), blocks, x.leaked.Count(), resets, x.opened.Load(), x.echoed.Load())
	if int64(x.arrived.Count()) != sent {
		t.Errorf("%d of %d packets of open flows were lost", sent-int64(x.arrived.Count()), sent)
	}
	if x.passed.Count() != 0 {
		t.Errorf("%d of %d forbidden packets passed", x.passed.Count(), blocks)
	}
	if x.leaked.Count() != 0 {
		t.Errorf("%d packets left with an inside source: %v", x.leaked.Count(), x.leaked)
	}
	if x.opened.Load() == 0 || x.echoed.Load() == 0 || resets == 0 {
		t.Error("there was no traffic to disturb")
	}
}

// The two that take turns. They agree on what the traffic needs.
const switchA = zones + `
masquerade:
  - {from: [lan, dmz], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:8081", "[fd00:1::10]:8081"]}
`
const switchB = zones + `
sets:
  friends: [198.51.100.0/24, 192.0.2.0/25]
masquerade:
  - {from: [lan, dmz], to: wan, except_destinations: [10.0.0.0/8, 172.16.0.0/12]}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.10:8081", "[fd00:1::10]:8081"]}
  - {from: wan, protocol: tcp, ports: 5000-5010, to: 192.168.2.10}
forward:
  rules:
    - {from: lan, to: dmz, action: accept, sources: 192.168.1.10}
`

// Another backend takes the place of the one in force as another policy would:
// nobody feels it, nothing passes that must not, and nothing is left behind.
func TestSwitch(t *testing.T) {
	topo := lab.Gateway(t, lab.WithoutGuest())
	topo.LAN1.ServeTCP(":8081")
	s := newSwitching(t, topo)
	s.ipmasq(t, 0, "apply", s.policy(t, "nftables", switchA))
	x := disturb(t, topo)
	for i, to := range everyWay() {
		file := s.policy(t, to, []string{switchB, switchB, switchA}[i%3])
		if out := s.ipmasq(t, 2, "plan", file); !strings.Contains(out, "has taken its place") {
			t.Errorf("plan to %s says\n%s", to, out)
		}
		s.ipmasq(t, 0, "apply", file)
		s.holds(t, to)
		if t.Failed() {
			break
		}
	}
	x.ends(t)
	s.gone(t)
}

// A rollback leads back to the other backend, and forth again; and so does a
// policy that nobody confirms.
func TestSwitchBack(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	topo.LAN1.ServeTCP(":8081")
	s := newSwitching(t, topo)
	s.ipmasq(t, 0, "apply", s.policy(t, "nftables", switchA))
	x := disturb(t, topo)
	for _, to := range []string{"iptables-legacy", "iptables-nft"} {
		s.ipmasq(t, 0, "apply", s.policy(t, to, switchB))
		s.holds(t, to)
		s.ipmasq(t, 0, "rollback")
		s.holds(t, "nftables")
		s.ipmasq(t, 0, "rollback")
		s.holds(t, to)
		// From here to nftables, on trial.
		s.ipmasq(t, 0, "apply", "--confirm", "1s", s.policy(t, "nftables", switchA))
		s.confirmed(t)
		s.holds(t, to)
		s.ipmasq(t, 0, "apply", s.policy(t, "nftables", switchA))
		s.holds(t, "nftables")
		// And the other way.
		s.ipmasq(t, 0, "apply", "--confirm", "1s", s.policy(t, to, switchB))
		s.confirmed(t)
		s.holds(t, "nftables")
	}
	x.ends(t)
	s.gone(t)
}

// The same policy in another place is another entry of the history, once.
func TestSwitchHistory(t *testing.T) {
	t.Parallel()
	s := newSwitching(t, lab.Gateway(t, lab.WithoutGuest()))
	for _, to := range []string{"iptables-nft", "iptables-legacy", "iptables-legacy"} {
		s.ipmasq(t, 0, "apply", s.policy(t, to, switchA))
	}
	out := s.ipmasq(t, 0, "history")
	if strings.Count(out, "ipmasq apply") != 2 || strings.Count(out, "iptables-legacy in the place of iptables-nft") != 1 {
		t.Errorf("the history is\n%s", out)
	}
	s.ipmasq(t, 0, "delete")
}

// confirmed waits until no policy waits to be confirmed.
func (s *switching) confirmed(t *testing.T) {
	t.Helper()
	if !within(func() bool {
		text, err := os.ReadFile(s.dir + "/state/state.json")
		return err == nil && !strings.Contains(string(text), `"unconfirmed"`)
	}) {
		t.Error("a policy that nobody confirms does not go back")
	}
}

// What another variant holds, from whoever was killed or lost the state, goes
// with the next apply, and with delete.
func TestSwitchLeft(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	s := newSwitching(t, topo)
	answering(topo.Server)
	all := []string{"nftables", "iptables-legacy", "iptables-nft"}
	forget := func() {
		if err := os.RemoveAll(s.dir + "/state"); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() {
		for _, backend := range all {
			// Rules that nobody remembers: each is put where the others are not seen.
			kept := s.dir + "/kept-" + backend
			s.ipmasq(t, 0, "apply", s.policy(t, backend, switchA))
			if backend != "nftables" {
				for _, family := range []string{"ip", "ip6"} {
					if err := os.WriteFile(kept+family, []byte(s.GW.Run(t, family+strings.TrimPrefix(backend, "ip")+"-save")), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			} else if err := os.WriteFile(kept, []byte(s.GW.Run(t, "nft", "list", "table", "inet", "ipmasq")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.GW.Run(t, "nft", "-f", s.dir+"/kept-nftables")
		for _, family := range []string{"ip", "ip6"} {
			s.GW.Run(t, family+"tables-legacy-restore", s.dir+"/kept-iptables-legacy"+family)
		}
		if got := s.holders(t); len(got) != 3 {
			t.Fatalf("rules are in %v", got)
		}
	}
	for _, to := range all {
		fill()
		if out := s.ipmasq(t, 2, "status"); strings.Count(out, "also  ") != 2 {
			t.Errorf("status says\n%s", out)
		}
		if to == "iptables-legacy" { // else the state says iptables-nft
			forget()
		}
		s.ipmasq(t, 0, "apply", s.policy(t, to, switchA))
		s.holds(t, to)
		opens(t, topo.LAN1, at(lab.Outside, 80), lab.GatewayUplink).Close()
	}
	fill()
	s.ipmasq(t, 0, "delete")
	s.holds(t, "")
	fill()
	forget()
	s.ipmasq(t, 0, "delete") // what forwarding was before, nobody knows
	s.holds(t, "")
}
