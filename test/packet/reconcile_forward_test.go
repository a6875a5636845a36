package packet

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Another target: a client that never stops sending from the one socket is at
// the new one as soon as apply is done, and no datagram gets lost between.
func TestReconcileRetargetUDP(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, calm+ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n"))
		first, second := r.LAN1.ServeUDP(":80"), r.LAN2.ServeUDP(":80")
		u := socket(t, r.Neighbor, at(ip.uplink, 8080))
		answered(t, u, at(ip.lan1, 80))

		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		sent, ended := atomic.Int64{}, make(chan struct{})
		sender := socket(t, r.Neighbor, at(ip.uplink, 8080))
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				if sender.Send("on and on") == nil {
					sent.Add(1)
				}
				time.Sleep(time.Millisecond) // the rate of the client
			}
		}()
		arrived := func(s *lab.Server) (n int64) {
			for _, peer := range s.Peers() {
				if peer == sender.Local() {
					n++
				}
			}
			return n
		}
		if !within(func() bool { return arrived(first) > 50 }) {
			t.Fatal("the client does not reach the first target")
		}
		r.changes(t, calm+ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan2:80\"}\n"),
			map[string]int{"port_forward game: would go to " + at(ip.lan2, 80): 2})
		answered(t, u, at(ip.lan2, 80))
		r.Settle()
		left := arrived(first)
		if !within(func() bool { return arrived(second) > 50 }) {
			t.Error("the client does not reach the second target")
		}
		if now := arrived(first); now != left {
			t.Errorf("%d datagrams came to the first target after the apply", now-left)
		}
		stop()
		<-ended
		if !within(func() bool { return arrived(first)+arrived(second) == sent.Load() }) {
			t.Errorf("%d datagrams sent, %d arrived at the first target and %d at the second", sent.Load(), arrived(first), arrived(second))
		}
	})
}

// within waits for something to come true.
func within(is func() bool) bool {
	for until := time.Now().Add(lab.Patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// A forward that goes, or that is for others now: what its client sends does
// not arrive any more.
func TestReconcileForwardRemoved(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		game := "  - {name: game, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n"
		other := "  - {name: other, from: wan, protocol: udp, ports: 8081, to: \"$lan1:80\"}\n"
		r := reconciling(t, ip, calm+ip.forwards(game+other))
		r.LAN1.ServeUDP(":80")
		s := speaks(t, r.LAN1, 80)
		u, kept := socket(t, r.Neighbor, at(ip.uplink, 8080)), socket(t, r.Neighbor, at(ip.uplink, 8081))
		answered(t, u, at(ip.lan1, 80))
		answered(t, kept, at(ip.lan1, 80))
		client1, server1 := s.meets(t, r.Neighbor, at(ip.uplink, 8080))
		client2, server2 := s.meets(t, r.Neighbor, at(ip.uplink, 8080))
		tells(t, server1, client1, "hello")
		tells(t, client2, server2, "hello")

		// The policy that only adds cuts nothing.
		r.changes(t, calm+ip.forwards(game+other+"  - {name: more, from: wan, protocol: tcp, ports: 9000, to: \"$lan2:80\"}\n"), map[string]int{})
		answered(t, u, at(ip.lan1, 80))
		tells(t, server1, client1, "still")

		r.changes(t, calm+ip.forwards(other), map[string]int{"port_forward game: would be dropped by forward default": 3})
		together(
			func() { unanswered(t, u) },
			func() { deaf(t, server1, client1, "the server speaks first") },
			func() { deaf(t, client2, server2, "the client speaks first") },
		)
		answered(t, kept, at(ip.lan1, 80))
	})
}

// The same with a masquerade for the target, and a forward that keeps the port:
// what the server says next would look to the client as before, since it leaves
// from the address and port that the client knows, if they are free.
func TestReconcileSamePortTCP(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		base := calm + "  - {name: lan, from: lan, to: wan}\n"
		r := reconciling(t, ip, base+ip.forwards("  - {name: web, from: wan, protocol: tcp, ports: 80, to: \"$lan1\"}\n"))
		s := speaks(t, r.LAN1, 80)
		client1, server1 := s.meets(t, r.Neighbor, at(ip.uplink, 80))
		client2, server2 := s.meets(t, r.Neighbor, at(ip.uplink, 80))
		tells(t, server1, client1, "hello")
		r.changes(t, base, map[string]int{"port_forward web: would be dropped by forward default": 2})
		together(
			func() { deaf(t, server1, client1, "the server speaks first") },
			func() { deaf(t, client2, server2, "the client speaks first") },
		)
		// The client's host does not know who speaks there.
		_ = server1.SetReadDeadline(time.Now().Add(lab.Patience))
		if _, err := server1.Read(make([]byte, 1)); !lab.IsReset(err) {
			t.Errorf("the server is told %v, want a reset", err)
		}
		opens(t, r.LAN1, at(ip.outside, 7777), ip.uplink)
	})
}

// Both sides never stop: whichever is first after the cut, the client is at the
// new target, and then at none.
func TestReconcileSamePortUDP(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		const clients = 10
		base := calm + "  - {name: lan, from: lan, to: wan}\n"
		forward := func(target string) string {
			return base + ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 4000, to: \""+target+"\"}\n")
		}
		r := reconciling(t, ip, forward("$lan1"))
		chatters(t, r.LAN1, 4000)
		chatters(t, r.LAN2, 4000)
		var talkers [clients]*talker
		for i := range talkers {
			talkers[i] = talks(t, r.Neighbor, at(ip.uplink, 4000))
			talkers[i].hears(t, "lan1")
		}
		r.changes(t, forward("$lan2"), map[string]int{"port_forward game: would go to " + at(ip.lan2, 4000): clients})
		r.Settle()
		for _, c := range talkers {
			c.forget()
		}
		for _, c := range talkers {
			c.hears(t, "lan2")
		}
		r.changes(t, base, map[string]int{"port_forward game: would be dropped by forward default": clients})
		r.Settle()
		for _, c := range talkers {
			c.forget()
		}
		for _, c := range talkers {
			c.hears(t, "")
		}
	})
}

// For some clients only: the others are cut.
func TestReconcileForwardRestricted(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, calm+ip.forwards("  - {name: web, from: wan, protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n"))
		listens(r.LAN1, 80)
		u, friend := socket(t, r.Neighbor, at(ip.uplink, 8080)), socket(t, r.Server, at(ip.uplink, 8080))
		answered(t, u, at(ip.lan1, 80))
		answered(t, friend, at(ip.lan1, 80))
		c, open := opens(t, r.Neighbor, at(ip.uplink, 8080), ip.neighbor), opens(t, r.Server, at(ip.uplink, 8080), ip.outside)
		r.changes(t, calm+ip.forwards("  - {name: web, from: wan, sources: \"FRIEND\", protocol: [tcp, udp], ports: 8080, to: \"$lan1:80\"}\n", "FRIEND", ip.outside),
			map[string]int{"port_forward web: would not be translated": 2})
		together(func() { unanswered(t, u) }, func() {
			if c.Echo(lab.Silence, "there?") == nil {
				t.Error("the connection goes on")
			}
		})
		answered(t, friend, at(ip.lan1, 80))
		carries(t, open)
	})
}

// A client that has talked to the gateway itself, and never stops, comes to a
// new forward all the same.
func TestReconcileForwardUnblocked(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, calm)
		r.LAN1.ServeUDP(":80")
		r.GW.ServeUDP(":8080")
		u, other := socket(t, r.Neighbor, at(ip.uplink, 8080)), socket(t, r.Neighbor, at(ip.uplink, 8080), lab.From(":5000"))
		answered(t, u, at(ip.uplink, 8080))
		answered(t, other, at(ip.uplink, 8080))
		r.changes(t, calm+ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"$lan1:80\"}\n"),
			map[string]int{"port_forward game: is not translated": 2})
		answered(t, u, at(ip.lan1, 80))
		answered(t, other, at(ip.lan1, 80))
	})
}

// Of several targets one goes: its clients are cut, the others' stay.
func TestReconcileTargets(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		r := reconciling(t, ip, calm+ip.forwards("  - {name: web, from: wan, protocol: udp, ports: 8080, to: [\"$lan1:80\", \"$lan2:80\"]}\n"))
		r.LAN1.ServeUDP(":80")
		r.LAN2.ServeUDP(":80")
		var sockets []*lab.UDPConn
		for range 4 {
			u := socket(t, r.Neighbor, at(ip.uplink, 8080))
			if _, err := u.Exchange(lab.Patience, "hello"); err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, u)
		}
		r.changes(t, calm+ip.forwards("  - {name: web, from: wan, protocol: udp, ports: 8080, to: \"$lan2:80\"}\n"),
			map[string]int{"port_forward web: would go to " + at(ip.lan2, 80): 2})
		for _, u := range sockets {
			answered(t, u, at(ip.lan2, 80))
		}
	})
}

// Inside clients of an outside address are clients too, in both of their
// translations.
func TestReconcileHairpin(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		policy := func(target, more string) string {
			return calm + "  - {name: lan, from: lan, to: wan}\n" +
				ip.forwards("  - {name: game, from: wan, protocol: udp, ports: 8080, to: \"TARGET:80\"MORE}\n", "TARGET", bracketed(target), "MORE", more)
		}
		r := reconciling(t, ip, policy(ip.lan1, ""))
		r.LAN1.ServeUDP(":80")
		r.LAN2.ServeUDP(":80")
		u := socket(t, r.LAN2, at(ip.uplink, 8080))
		answered(t, u, at(ip.lan1, 80))
		leavesAs(t, u, ip.gwLAN)
		own := socket(t, r.GW, at(ip.uplink, 8080))
		answered(t, own, at(ip.lan1, 80))
		r.changes(t, policy(ip.lan2, ""), map[string]int{"port_forward game: would go to " + at(ip.lan2, 80): 2})
		answered(t, u, at(ip.lan2, 80))
		answered(t, own, at(ip.lan2, 80))
		// Another source for the target to see.
		r.changes(t, policy(ip.lan2, ", hairpin: {source: outside}"), map[string]int{"port_forward game: would leave as " + ip.uplink: 1})
		leavesAs(t, u, ip.uplink)
		r.changes(t, policy(ip.lan2, ", hairpin: false"), map[string]int{"port_forward game: would be dropped by forward default": 1, "port_forward game: would not be translated": 1})
		together(func() { unanswered(t, u) }, func() { unanswered(t, own) })
	})
}

// What a redirect has handed to the gateway goes on to where it was meant for.
func TestReconcileRedirectRemoved(t *testing.T) {
	eachApart(t, func(t *testing.T, ip family) {
		base := calm + "  - {name: lan, from: lan, to: wan}\n"
		r := reconciling(t, ip, base+"redirect: [{name: dns, from: lan, protocol: udp, ports: 53, to_port: 5353}]\n")
		r.Server.ServeUDP(":53")
		r.GW.ServeUDP(":5353", lab.As("proxy"))
		u := socket(t, r.LAN1, at(ip.outside, 53))
		if seen, err := u.Exchange(lab.Patience, "hello"); err != nil || seen.Name != "proxy" {
			t.Fatalf("answered by %v, %v", seen, err)
		}
		r.changes(t, base, map[string]int{"redirect dns: would not be translated": 1})
		leavesAs(t, u, ip.uplink)
	})
}
