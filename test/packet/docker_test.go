package packet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Two containers, each on a network of its own. The first one publishes port 80 at
// 8080 of the host.
const (
	container1, container1v6 = "172.17.0.2", "fd00:17::2"
	container2, container2v6 = "172.18.0.2", "fd00:18::2"
)

// containers are what Docker has made of links, with a host for each container.
func containers(t *testing.T, topo *lab.Topology) (one, two *lab.Host) {
	t.Helper()
	make := func(bridge, v4, v6, host string) *lab.Host {
		h := topo.Host(host)
		topo.Link(topo.GW, "veth-"+host, h, "eth0")
		topo.GW.Bridge(bridge, "veth-"+host)
		topo.GW.Addr(bridge, v4+".1/16", v6+"::1/64")
		h.Addr("eth0", v4+".2/16", v6+"::2/64")
		h.Route("default", v4+".1")
		h.Route("default", v6+"::1")
		return h
	}
	one, two = make("docker0", "172.17.0", "fd00:17", "one"), make("br-two", "172.18.0", "fd00:18", "two")
	answering(one, two)
	return one, two
}

// dockerXT is what iptables-save shows of a host with Docker, of a family: as Docker
// 24 makes it, or 28. It has forwarding closed.
func dockerXT(v28, ipv6 bool) string {
	addresses := strings.NewReplacer("ONE", "172.17.0.2/32", "NET1", "172.17.0.0/16", "NET2", "172.18.0.0/16", "TARGET", "172.17.0.2:80", "LOOPBACK", "127.0.0.0/8")
	if ipv6 {
		addresses = strings.NewReplacer("ONE", "fd00:17::2/128", "NET1", "fd00:17::/64", "NET2", "fd00:18::/64", "TARGET", "[fd00:17::2]:80", "LOOPBACK", "::1/128")
	}
	filter := `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A FORWARD -o br-two -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br-two -j DOCKER
-A FORWARD -i br-two ! -o br-two -j ACCEPT
-A FORWARD -i br-two -o br-two -j ACCEPT
-A DOCKER -d ONE ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i br-two ! -o br-two -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o br-two -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -i eth7 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
`
	if v28 {
		filter = `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -d ONE ! -i docker0 -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d ONE ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i br-two -o br-two -j DROP
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o br-two -j DOCKER
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o br-two -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-FORWARD -i br-two -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i br-two ! -o br-two -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o br-two -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
`
	}
	return addresses.Replace(filter + `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d LOOPBACK -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s NET1 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s NET2 ! -o br-two -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination TARGET
COMMIT
`)
}

// dockerOwn is what Docker makes with its own nftables rules, where it knows a mark.
func dockerOwn(family, mark string) string {
	addresses := strings.NewReplacer("FAMILY", "ip", "ONE", "172.17.0.2", "NET1", "172.17.0.0/16", "NET2", "172.18.0.0/16", "VALUE", mark)
	if family == "ip6" {
		addresses = strings.NewReplacer("FAMILY", "ip6", "ONE", "fd00:17::2", "NET1", "fd00:17::/64", "NET2", "fd00:18::/64", "VALUE", mark)
	}
	text := addresses.Replace(`
table FAMILY docker-bridges {
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-in__docker0, "br-two" : jump filter-forward-in__br-two }
	}
	map filter-forward-out-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-out__docker0, "br-two" : jump filter-forward-out__br-two }
	}
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname vmap @filter-forward-in-jumps
		iifname vmap @filter-forward-out-jumps
	}
	chain filter-forward-in__docker0 {
		ct state established,related counter accept
		meta mark VALUE counter accept comment "ALLOW FW MARK"
		iifname "docker0" counter accept comment "ICC"
		FAMILY daddr ONE tcp dport 80 counter accept
		counter drop comment "UNPUBLISHED PORT DROP"
	}
	chain filter-forward-out__docker0 {
		ct state established,related counter accept
		counter accept comment "OUTGOING"
	}
	chain filter-forward-in__br-two {
		ct state established,related counter accept
		meta mark VALUE counter accept comment "ALLOW FW MARK"
		iifname "br-two" counter accept comment "ICC"
		counter drop comment "UNPUBLISHED PORT DROP"
	}
	chain filter-forward-out__br-two {
		ct state established,related counter accept
		counter accept comment "OUTGOING"
	}
	chain nat-PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local counter jump nat-prerouting-and-output
	}
	chain nat-prerouting-and-output {
		iifname != "docker0" tcp dport 8080 counter dnat to ONE:80 comment "DNAT"
	}
	chain nat-POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "docker0" oifname != "docker0" FAMILY saddr NET1 counter masquerade comment "MASQUERADE"
		iifname "br-two" oifname != "br-two" FAMILY saddr NET2 counter masquerade comment "MASQUERADE"
	}
	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		FAMILY daddr ONE iifname != "docker0" counter drop comment "DROP DIRECT ACCESS"
	}
}
`)
	if family == "ip6" {
		text = strings.ReplaceAll(text, "fd00:17::2:80", "[fd00:17::2]:80")
	}
	if mark == "" {
		var out strings.Builder
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "ALLOW FW MARK") {
				out.WriteString(line)
			}
		}
		return out.String()
	}
	return text
}

// dockerHost is a gateway with Docker's rules, as they are of a variant.
type dockerHost struct {
	*gateway
	one, two *lab.Host
	xt       string // the variant, or ""
}

func newDockerHost(t *testing.T, xt string, v28 bool) *dockerHost {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	answering(topo.Server, topo.LAN1)
	h := &dockerHost{xt: xt}
	h.one, h.two = containers(t, topo)
	h.gateway = &gateway{Topology: topo}
	if xt != "" {
		h.startDocker(t, v28)
	}
	h.gateway = untouched(t, topo)
	return h
}

// startDocker makes Docker's rules of iptables.
func (h *dockerHost) startDocker(t *testing.T, v28 bool) {
	t.Helper()
	for _, ipv6 := range []bool{false, true} {
		h.GW.Feed(t, dockerXT(v28, ipv6), h.tool(ipv6)+"-restore", "--noflush")
	}
}

func (h *dockerHost) tool(ipv6 bool) string {
	if ipv6 {
		return "ip6" + strings.TrimPrefix(h.xt, "ip")
	}
	return h.xt
}

// dockers is what iptables-save prints of Docker's variant, without counters and the
// time; where our own rules are of that variant, without built-in chains and tables
// that have nothing, for those stay.
func (h *dockerHost) dockers(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, ipv6 := range []bool{false, true} {
		table := ""
		for line := range strings.Lines(h.GW.Run(t, h.tool(ipv6)+"-save")) {
			switch {
			case strings.HasPrefix(line, "#"):
				continue
			case strings.HasPrefix(line, "*"):
				table = strings.TrimSpace(line)
			}
			if empty := strings.HasPrefix(line, "*") || strings.HasPrefix(line, "COMMIT") || strings.Contains(line, " ACCEPT ["); empty && h.variant == h.xt {
				continue
			}
			if line[0] == ':' {
				line, _, _ = strings.Cut(line, " [")
			}
			out.WriteString(h.tool(ipv6) + " " + table + " " + strings.TrimSpace(line) + "\n")
		}
	}
	return out.String()
}

// reach is who can connect to what.
type reach map[string]bool

// reaches tries all ways at once, those that are expected to be open for longer.
func (h *dockerHost) reaches(ip family, open []string) reach {
	one, two := container1, container2
	if ip.v6() {
		one, two = container1v6, container2v6
	}
	out, mu, wg := reach{}, sync.Mutex{}, sync.WaitGroup{}
	for name, way := range map[string]struct {
		from *lab.Host
		to   string
	}{
		"lan to outside":                 {h.LAN1, at(ip.outside, 80)},
		"outside to the port forward":    {h.Server, at(ip.uplink, 8000)},
		"outside to a container forward": {h.Server, at(ip.uplink, 8001)},
		"outside to the published port":  {h.Server, at(ip.uplink, 8080)},
		"lan to the published port":      {h.LAN1, at(ip.gwLAN, 8080)},
		"lan to container one":           {h.LAN1, at(one, 80)},
		"lan to container one, unopened": {h.LAN1, at(one, 81)},
		"lan to container two":           {h.LAN1, at(two, 81)},
		"outside to container two":       {h.ISP, at(two, 81)},
		"container one to outside":       {h.one, at(ip.outside, 80)},
		"container one to lan":           {h.one, at(ip.lan1, 80)},
		"container one to container two": {h.one, at(two, 81)},
		"container two to container one": {h.two, at(one, 81)},
		"container two to outside":       {h.two, at(ip.outside, 80)},
		"container two to lan":           {h.two, at(ip.lan1, 80)},
	} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			within := lab.Silence
			if slices.Contains(open, name) {
				within = lab.Patience
			}
			c, err := way.from.DialTCP(within, way.to)
			if err == nil {
				c.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = err == nil
		}()
	}
	wg.Wait()
	return out
}

// opened are the ways that are there, sorted.
func (r reach) opened() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if r[name] {
			names = append(names, name)
		}
	}
	return names
}

func (h *dockerHost) wants(t *testing.T, ip family, when string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := h.reaches(ip, want).opened(); !slices.Equal(got, want) {
		t.Errorf("%s: what passes is\n\t%s\nwant\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const (
	dockerPolicy = `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8000, to: [192.168.1.10:80, "[fd00:1::10]:80"]}
`
	dockerAccept = "gateway: {docker: accept}\n"
)

// What containers may do without us: Docker says so, or our own chain, which judges
// what comes from a zone.
func containerWays(more ...string) []string {
	return append([]string{"container one to outside", "container one to lan", "container two to outside", "container two to lan"}, more...)
}

// dockerVariants are both of iptables, each with another Docker: that of iptables-nft
// is Docker 28, or not.
func dockerVariants(t *testing.T, nft28 bool, f func(t *testing.T, xt string, v28 bool)) {
	t.Helper()
	for _, xt := range []string{"iptables-nft", "iptables-legacy"} {
		v28 := nft28 == (xt == "iptables-nft")
		t.Run(fmt.Sprintf("%s, Docker %d", xt, map[bool]int{false: 24, true: 28}[v28]), func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.Binary(xt+"-restore"), lab.Binary("ip6"+strings.TrimPrefix(xt, "ip")+"-restore"))
			f(t, xt, v28)
		})
	}
}

// What the policy accepts passes Docker's chains, and nothing else does; its rules
// are what they were when the key or all of ours is gone.
func TestDockerAccept(t *testing.T) {
	dockerVariants(t, true, func(t *testing.T, xt string, v28 bool) {
		h := newDockerHost(t, xt, v28)
		before := h.dockers(t)
		open := containerWays("lan to outside", "outside to the port forward")
		closed := containerWays()
		if h.variant == xt { // what ours accept there is accepted
			closed = open
		}
		h.apply(t, dockerPolicy)
		each(t, func(t *testing.T, ip family) { h.wants(t, ip, "without the key", closed...) })
		text := h.apply(t, dockerPolicy+dockerAccept)
		if h.variant == "" && !strings.Contains(text, "+ "+xt+" DOCKER-USER -i eth1 -o eth0 ") {
			t.Errorf("apply says\n%s", text)
		}
		each(t, func(t *testing.T, ip family) { h.wants(t, ip, "with it", open...) })
		h.ipmasq(t, 0, "status")
		// Docker puts its jumps before ours when it starts: ours judges first all the
		// same.
		for _, ipv6 := range []bool{false, true} {
			h.GW.Run(t, h.tool(ipv6), "-D", "FORWARD", "-j", "DOCKER-USER")
			h.GW.Run(t, h.tool(ipv6), "-I", "FORWARD", "-j", "DOCKER-USER")
		}
		each(t, func(t *testing.T, ip family) { h.wants(t, ip, "when Docker has started", open...) })
		if h.variant == xt { // the place of our own jump is put right
			h.apply(t, dockerPolicy+dockerAccept)
		}
		if text := h.apply(t, dockerPolicy+dockerAccept); !strings.Contains(text, "nothing changed") {
			t.Errorf("a second apply says\n%s", text)
		}
		if now := h.dockers(t); !strings.Contains(now, "ipmasq") {
			t.Errorf("nothing of ours is in DOCKER-USER\n%s", now)
		}

		// Docker's networks stay closed to what Docker drops, whatever else we accept.
		h.apply(t, dockerPolicy+dockerAccept+"forward: {default: accept}\n")
		if h.variant != xt { // or what ours accept is accepted
			each(t, func(t *testing.T, ip family) {
				wants := append(open[:len(open):len(open)], "outside to the published port", "lan to the published port")
				if !v28 { // Docker 24 leaves direct access to what is published
					wants = append(wants, "lan to container one")
				}
				h.wants(t, ip, "with forward.default accept", wants...)
			})
		}

		h.apply(t, dockerPolicy)
		each(t, func(t *testing.T, ip family) { h.wants(t, ip, "without the key again", closed...) })
		if h.variant == "" {
			if now := h.dockers(t); now != before {
				t.Errorf("without the key Docker's rules are not what they were\n%s", difference(before, now))
			}
		}
		h.apply(t, dockerPolicy+dockerAccept)
		h.delete(t)
		if now := h.dockers(t); now != before {
			t.Errorf("after delete Docker's rules are not what they were\n%s", difference(before, now))
		}
	})
}

// A network of Docker's in a zone, and a container as a port forward's target, are
// for the policy to open, and no more of them than it says.
func TestDockerAcceptContainers(t *testing.T) {
	dockerVariants(t, false, func(t *testing.T, xt string, v28 bool) {
		h := newDockerHost(t, xt, v28)
		h.apply(t, `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
  two: {interfaces: [br-two]}
masquerade:
  - {from: lan, to: wan}
  - {from: two, to: wan}
port_forward:
  - {name: one, from: wan, protocol: tcp, ports: 8001, to: [172.17.0.2:81, "[fd00:17::2]:81"]}
forward:
  rules:
    - {from: lan, to: two, protocol: tcp, ports: 81, action: accept}
`+dockerAccept)
		each(t, func(t *testing.T, ip family) {
			h.wants(t, ip, "with a zone of Docker's", "lan to outside", "lan to container two", "outside to a container forward",
				"container one to outside", "container one to lan", "container two to outside")
		})
		h.ipmasq(t, 0, "status")
		h.delete(t)
	})
}

// Docker's own nftables rules look at no other table: they are told by their mark.
func TestDockerAcceptMark(t *testing.T) {
	for _, mark := range []string{"", "0x10", "& 0x30 == 0x20"} {
		t.Run("mark "+mark, func(t *testing.T) {
			t.Parallel()
			h := newDockerHost(t, "", false)
			policy := `
zones:
  lan: {interfaces: [eth1], networks: [192.168.1.0/24, "fd00:1::/64"]}
  wan: {interfaces: [eth0]}
  two: {interfaces: [br-two]}
masquerade:
  - {from: [lan, two], to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 8000, to: [192.168.1.10:80, "[fd00:1::10]:80"]}
  - {name: one, from: wan, protocol: tcp, ports: 8001, to: [172.17.0.2:81, "[fd00:17::2]:81"]}
forward:
  rules:
    - {from: lan, to: two, protocol: tcp, ports: 81, action: accept}
`
			for _, family := range []string{"ip", "ip6"} {
				h.GW.Feed(t, dockerOwn(family, mark), "nft", "-f", "-")
			}
			before := h.others(t)
			closed := []string{"lan to outside", "outside to the port forward", "container one to outside", "container one to lan", "container two to outside"}
			h.apply(t, policy)
			each(t, func(t *testing.T, ip family) { h.wants(t, ip, "without the key", closed...) })
			h.apply(t, policy+dockerAccept)
			open := append(slices.Clone(closed), "outside to a container forward", "lan to container two")
			if mark == "" {
				open = closed
				if says := h.complaints(t, 0, "plan", h.dir+"/policy.yaml"); !strings.Contains(says, "--bridge-accept-fwmark") {
					t.Errorf("plan says\n%s", says)
				}
			}
			each(t, func(t *testing.T, ip family) { h.wants(t, ip, "with it", open...) })
			h.ipmasq(t, 0, "status")
			if now := h.others(t); now != before {
				t.Errorf("Docker's rules are not what they were\n%s", difference(before, now))
			}
			h.apply(t, policy)
			each(t, func(t *testing.T, ip family) { h.wants(t, ip, "without the key again", closed...) })
			h.apply(t, policy+dockerAccept)
			h.GW.Run(t, "nft", "delete", "table", "ip", "docker-bridges")
			h.GW.Run(t, "nft", "delete", "table", "ip6", "docker-bridges")
			if mark != "" {
				h.ipmasq(t, 2, "status") // marks for nobody
			}
			h.ipmasq(t, 0, "delete")
		})
	}
}
