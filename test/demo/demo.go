package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// downloadSize is what the pc fetches.
const downloadSize = 4 << 20

// run is the demo. Whatever does not come true fails t.
func run(t lab.TB, w io.Writer) {
	start := time.Now()
	h := newHome(t, w)
	h.say("A home network, made of network namespaces. This machine's own network is not")
	h.say("touched, and all of it goes when the demo ends. What is printed was measured:")
	h.say("where something does not come true, the demo stops and exits with code 1.")
	h.say("%s", picture)
	h.say("Commands are real. Each ipmasq also has --netns and --state-dir, to work on the")
	h.say("gateway of the picture; they are left out here.")
	h.before()
	h.policy()
	h.apply()
	h.masqueraded()
	h.forwarded()
	h.connections()
	h.refused()
	h.leak()
	h.again()
	h.delete()
	h.say("\nEverything came true, in %.1f seconds.", time.Since(start).Seconds())
}

func (h *home) before() {
	h.heading("Before: the gateway forwards nothing")
	h.internet.ServeTCP(":80", lab.ServeBytes(downloadSize), lab.As("web-site"))
	h.internet.ServeTCP(":25", lab.As("mail-server"))
	h.server.ServeTCP(":8080", lab.As("server"))
	h.server.ServeTCP(":22", lab.As("server"))
	h.found("pc        opens 198.51.100.9:80 (the web site)", "%s", h.closed(h.pc, internetAddr+":80"))
	h.found("internet  opens 203.0.113.2:80  (the gateway)", "%s", h.closed(h.internet, outsideAddr+":80"))
	h.found("neighbour opens 192.168.1.10:8080 (the server)", "%s", h.closed(h.neighbour, serverAddr+":8080"))
}

func (h *home) policy() {
	h.heading("The policy")
	h.shell("grep", "-v", "^ *#", "home.yaml")
	h.say("")
	h.run(0, []string{"check", "home.yaml"}, "valid: 2 zones")
	h.say("")
	h.say("What would it change? (Exit code 2: there is a difference.)")
	h.run(2, []string{"plan", "home.yaml"}, "+ masquerade lan-wan", "+ port_forward web", "ip_forward: 0 -> 1")
}

func (h *home) apply() {
	h.heading("Put it in force")
	h.run(0, []string{"apply", "home.yaml"}, "+ masquerade lan-wan", "applied and read back")
}

func (h *home) masqueraded() {
	h.heading("The inside gets out, behind the gateway's address")
	c := h.opens(h.pc, internetAddr+":80")
	n, err := c.Download(lab.Patience)
	h.must(err)
	if n != downloadSize {
		h.t.Fatalf("demo: %d bytes came, not %d", n, downloadSize)
	}
	h.found("pc        downloads from 198.51.100.9:80", "%d MiB", n>>20)
	h.found("          the pc's own side of the connection", "%s", c.Local())
	h.found("          the web site saw", "%s", c.Seen().Peer)
	if c.Seen().Peer.Addr().String() != outsideAddr {
		h.t.Fatalf("demo: the web site saw %s", c.Seen().Peer)
	}
}

func (h *home) forwarded() {
	h.heading("The outside gets in, where a port forward says so")
	for _, x := range []struct {
		who        string
		from       *lab.Host
		addr, what string
		saw, note  string
	}{
		{"internet ", h.internet, outsideAddr + ":80", "port_forward web", internetAddr, "the visitor's own address"},
		{"internet ", h.internet, outsideAddr + ":2222", "port_forward ssh", internetAddr, "it belongs to the set office"},
		{"pc       ", h.pc, outsideAddr + ":80", "from inside: hairpin", lab.GatewayLAN, "so answers come back by it"},
	} {
		c := h.opens(x.from, x.addr)
		seen := c.Seen()
		if seen.Name != "server" || seen.Peer.Addr().String() != x.saw {
			h.t.Fatalf("demo: %s opens %s: %s answered, which saw %s", x.who, x.addr, seen.Name, seen.Peer)
		}
		h.must(c.Echo(lab.Patience, "hello"))
		h.found(fmt.Sprintf("%s opens %s (%s)", x.who, x.addr, x.what), "the server answers on port %d", seen.Local.Port())
		h.found("          the server saw", "%s, %s", seen.Peer.Addr(), x.note)
	}
}

func (h *home) connections() {
	h.heading("What is open, and which entry translated it")
	h.opens(h.pc, internetAddr+":80")
	args := []string{"connections", "list", "--state", "established", "--sort", "entry"}
	const first, last = 24, 121 // from SOURCE to ENTRY: all of it is wider than a terminal
	h.say("$ ipmasq %s 2>/dev/null | cut -c%d-%d", strings.Join(args, " "), first, last)
	var list, hints bytes.Buffer
	h.start(0, args, &list, &hints, []string{"-> from " + outsideAddr, "masquerade lan-wan", "-> to " + serverAddr + ":8080", "port_forward web", "port_forward ssh"})
	for line := range strings.Lines(list.String()) {
		line = strings.TrimSuffix(line, "\n")
		h.print(strings.TrimRight(line[min(first-1, len(line)):min(last, len(line))], " ") + "\n")
	}
}

func (h *home) refused() {
	h.heading("Nothing else passes")
	h.found("neighbour opens 203.0.113.2:2222 (not in the office)", "%s", h.closed(h.neighbour, outsideAddr+":2222"))
	h.found("neighbour opens 192.168.1.10:8080 (past the forward)", "%s", h.closed(h.neighbour, serverAddr+":8080"))
	h.found("pc        opens 198.51.100.9:25 (rule no-smtp)", "%s", h.closed(h.pc, internetAddr+":25"))
}

func (h *home) leak() {
	h.heading("No inside address leaves")
	h.say("A lone RST belongs to no connection, so the kernel's nat does not translate it.")
	h.say("The pc sends one. What reaches the provider with an inside address?")
	if _, err := exec.LookPath("nft"); err == nil {
		usual := lab.Gateway(h.t)
		usual.Forwarding(true)
		usual.GW.Feed(h.t, usualRules, "nft", "-f", "-")
		left := h.loneRST(usual, "eth1")
		if len(left) == 0 {
			h.t.Fatalf("demo: the usual rules stopped the packet; what the demo says of them is wrong")
		}
		h.found("a gateway with the usual three rules for nft", "lets out one from %s", left[0].Src)
	}
	if left := h.loneRST(h.topology, "eth1"); len(left) > 0 {
		h.t.Fatalf("demo: leaked: %s", left[0])
	}
	h.found("this gateway", "lets out nothing")
}

// usualRules are those of most guides, with a default of drop.
const usualRules = `table ip usual {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		iifname "eth1" oifname "eth0" accept
	}
	chain postrouting {
		type nat hook postrouting priority 100;
		oifname "eth0" masquerade
	}
}
`

// loneRST sends one from the pc, sees it arrive at the gateway, and gives what
// the provider received from any inside address.
func (h *home) loneRST(through *lab.Topology, lan string) []lab.Packet {
	arrives := through.GW.Capture(lan, lab.HasFlags(lab.RST))
	leaves := through.ISP.Capture("eth0", lab.All(lab.Incoming, lab.SrcIn("192.168.0.0/16")))
	through.LAN2.SendPacket("eth0", lab.TCP{
		Header: lab.Between(pcAddr, internetAddr), SrcPort: 40000, DstPort: 80, Flags: lab.RST, Seq: 1,
	}.Bytes())
	_, err := arrives.Wait(1, lab.Patience)
	h.must(err)
	leaves.Stop()
	arrives.Stop()
	return leaves.Packets()
}

func (h *home) again() {
	h.heading("Apply again, and look")
	h.run(0, []string{"apply", "home.yaml"}, "nothing changed")
	h.say("")
	h.run(0, []string{"status"}, "table inet ipmasq is in force", "ppp0 (wan): up, "+outsideAddr, "port_forward web")
}

func (h *home) delete() {
	h.heading("Take it all out")
	c := h.opens(h.internet, outsideAddr+":80")
	h.run(0, []string{"delete"}, "removed table inet ipmasq")
	h.say("")
	h.run(0, []string{"status"}, "nothing of ipmasq's is in the kernel", "none was applied", "IPv4 off")
	if err := c.Echo(2*lab.Silence, "hello"); err == nil {
		h.t.Fatalf("demo: a connection that was translated goes on after delete")
	}
	h.say("")
	h.found("pc        opens 198.51.100.9:80", "%s", h.closed(h.pc, internetAddr+":80"))
	h.found("internet  opens 203.0.113.2:80", "%s", h.closed(h.internet, outsideAddr+":80"))
	left, err := os.ReadDir(h.state)
	h.must(err)
	for _, f := range left {
		if f.Name() != "lock" {
			h.t.Fatalf("demo: delete left %s in the state folder", f.Name())
		}
	}
}
