package link

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
)

// A host that is described is what the kernel makes of the same words: for
// random addresses and routes, the same answers.
func TestHost(t *testing.T) {
	for seed := range uint64(8) {
		r := fibChance{rand.New(rand.NewPCG(seed, 2))}
		h, lines := r.host()
		freshNetNS(t)
		batch(t, lines)
		awaitLocal(t)
		real := readFIB(t)
		described, err := h.Read()
		must(t, err)
		for i := range 2000 {
			a := r.address([]Family{IPv4, IPv6}[i%2])
			switch r.IntN(6) {
			case 0:
				a = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(64))})
			case 1:
				a = netip.MustParseAddr(r.pick("127.0.0.1", "127.1.2.3", "127.255.255.255", "::1", "224.0.0.1", "ff02::1", "255.255.255.255", "0.0.0.0", "198.51.100.7", "2001:db8:ffff:1::7"))
			}
			if want, got := real.Kind(a), described.Kind(a); got != want {
				t.Errorf("seed %d: %s is of kind %d, the kernel says %d\n%v", seed, a, got, want, lines)
			}
			if a.IsMulticast() {
				continue // in any order
			}
			if want, got := real.Leaves(a), described.Leaves(a); !slices.Equal(got, want) {
				t.Errorf("seed %d: %s leaves by %v, the kernel says %v\n%v", seed, a, got, want, lines)
			}
			for i := range fibLinks {
				name := fmt.Sprint("l", i)
				if want, got := real.LocalOn(a, name), described.LocalOn(a, name); got != want {
					t.Errorf("seed %d: %s is local on %s: %v, the kernel says %v", seed, a, name, got, want)
				}
			}
			if t.Failed() {
				return
			}
		}
		if want, got := real.Facts.Local, described.Facts.Local; !slices.Equal(slices.Compact(got), slices.Compact(want)) {
			t.Errorf("seed %d: local %v, the kernel says %v", seed, got, want)
		}
		if want, got := real.Facts.DefaultInterfaces(), described.Facts.DefaultInterfaces(); !slices.Equal(got, want) {
			t.Errorf("seed %d: default interfaces %v, the kernel says %v", seed, got, want)
		}
	}
}

// host makes up a host, and what ip(8) would make it with.
func (r fibChance) host() (Host, []string) {
	var h Host
	lines := []string{"link set lo up"}
	for i := range fibLinks {
		name := fmt.Sprint("l", i)
		l := Link{Name: name, Up: true, Carrier: true, Kind: "veth"}
		lines = append(lines, fmt.Sprintf("link add %s type veth peer name p%d", name, i),
			fmt.Sprintf("link set %s addrgenmode none", name), fmt.Sprintf("link set p%d addrgenmode none", i),
			fmt.Sprintf("link set %s up", name), fmt.Sprintf("link set p%d up", i))
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i*16 + 1)}), []int{28, 28, 30, 31, 32}[r.IntN(5)])
		q := netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff:%d::1", i)), []int{64, 64, 120, 128}[r.IntN(4)])
		l.Addresses = []Address{{Prefix: p}, {Prefix: q}}
		h.Links = append(h.Links, l)
		lines = append(lines, fmt.Sprintf("addr add %s brd + dev %s", p, name), fmt.Sprintf("-6 addr add %s dev %s nodad", q, name))
	}
	for i := range 1 + r.IntN(20) {
		family := []Family{IPv4, IPv6}[r.IntN(2)]
		n := r.IntN(fibLinks)
		x := HostRoute{To: r.prefix(family), Interface: fmt.Sprint("l", n), Metric: uint32(i + 1), Table: []int{MainTable, MainTable, 100}[r.IntN(3)]}
		words, version := "", ""
		if family == IPv6 {
			version = "-6 "
		}
		switch r.IntN(4) {
		case 0:
			x.Kind, x.Interface, words = KindBlackhole, "", "blackhole"
		case 1:
			if family == IPv4 {
				x.Kind, x.Table, words = KindLocal, 0, "local"
			}
		}
		lines = append(lines, fmt.Sprintf("%sroute add %s %s %s table %d metric %d", version, words, x.To, dev(x.Interface), x.table(), x.Metric))
		h.Routes = append(h.Routes, x)
	}
	for i, family := range []Family{IPv4, IPv6} {
		if r.IntN(2) == 0 {
			h.Rules = append(h.Rules, Rule{Family: family, Priority: 900 + i, Mark: 1, Mask: 15, Table: 100})
			lines = append(lines, fmt.Sprintf("%srule add priority %d fwmark 0x1/0xf table 100", []string{"", "-6 "}[i], 900+i))
		}
	}
	return h, lines
}

func dev(name string) string {
	if name == "" {
		return ""
	}
	return "dev " + name
}

// A host that is made is the one that is described, and its links pass packets
// at once.
func TestMake(t *testing.T) {
	for seed := range uint64(8) {
		r := fibChance{rand.New(rand.NewPCG(seed, 3))}
		h, _ := r.host()
		h.Links[seed%fibLinks].Up = false
		h.Links[(seed+1)%fibLinks].PointToPoint = true
		h.Routes = slices.DeleteFunc(h.Routes, func(x HostRoute) bool { return x.Interface == h.Links[seed%fibLinks].Name })
		noLinkLocal := func() {
			must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0))
		}
		freshNetNS(t)
		noLinkLocal()
		far, err := OpenNetNS("")
		must(t, err)
		defer far.Close()
		freshNetNS(t)
		noLinkLocal()
		must(t, h.Make(far, func(i int) string { return fmt.Sprint("p", i) }))
		described, err := h.Read()
		must(t, err)
		real := readFIB(t)
		for i := range 1000 {
			a := r.address([]Family{IPv4, IPv6}[i%2])
			if r.IntN(5) == 0 {
				a = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(96))})
			}
			want, got := real.Leaves(a), described.Leaves(a)
			if !slices.Equal(got, want) || real.Kind(a) != described.Kind(a) {
				t.Fatalf("seed %d: %s leaves by %v (kind %d), the kernel says %v (kind %d)\n%+v", seed, a, got, described.Kind(a), want, real.Kind(a), h)
			}
		}
		for _, l := range h.Links {
			made, ok := real.Facts.Link(l.Name)
			if !ok || made.Up != l.Up || made.Carrier != l.Up || made.PointToPoint != l.PointToPoint || l.Up && len(made.Addresses) != len(l.Addresses) {
				t.Errorf("seed %d: made %+v, described %+v", seed, made, l)
			}
		}
		must(t, far.Do(func() error {
			ends, err := Read()
			for _, l := range ends.Links {
				if len(l.Addresses) > 0 && l.Name != "lo" {
					t.Errorf("seed %d: the far end %s has %v", seed, l.Name, l.Addresses)
				}
			}
			return err
		}))
	}
}
