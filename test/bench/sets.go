package main

import (
	"bytes"
	"fmt"
)

// blocked writes a policy with a set of n addresses in a file, of which no two
// lie side by side, and gives its path. One in four is an IPv6 network.
func (b *bench) blocked(n int) string {
	var lines bytes.Buffer
	for i := range n {
		if i%4 == 3 {
			fmt.Fprintf(&lines, "2001:db8:%x:%x::/64\n", i>>16, i&0xffff)
			continue
		}
		v := uint32(0x0b000000 + 2*i)
		fmt.Fprintf(&lines, "%d.%d.%d.%d\n", v>>24, v>>16&0xff, v>>8&0xff, v&0xff)
	}
	name := fmt.Sprintf("blocked%d", n)
	b.write(name+".txt", lines.Bytes())
	return b.write(name+".yaml", fmt.Appendf(nil, "version: 1\nsets:\n  blocked: {file: %s.txt}\n"+
		"zones:\n  lan: {interfaces: eth1, networks: 192.168.1.0/24}\n  wan: {interfaces: eth0}\n"+
		"masquerade:\n  - {from: lan, to: wan}\nforward:\n  rules:\n    - {from: lan, destinations: '@blocked', action: drop}\n", name))
}

// sets measures a cold apply of a large set from a file, and one more of the
// same. Its ranges are read back by asking for each from 20,000 of a family on.
func (b *bench) sets() {
	t := newTable("cold apply of a set of N addresses, beside nft -f of our own rendered text",
		"N", "nft -f", "memory", "ipmasq", "of nft -f", "memory", "the same again", "memory")
	var steps string
	for _, n := range []int{1000, 100000, 300000, 1000000} {
		h := b.host()
		policy := b.blocked(n)
		text := b.rendered(policy)
		var nft, cold, again sample
		var nftMemory, coldMemory, againMemory float64
		for range b.rounds {
			b.clear(h)
			wall, memory, _ := b.run(h, "nft", "-f", text)
			nft, nftMemory = append(nft, wall), max(nftMemory, memory)
			b.clear(h)
			wall, memory, steps = b.ipmasqOn(h, "apply", "--timings", policy)
			cold, coldMemory = append(cold, wall), max(coldMemory, memory)
			wall, memory, _ = b.ipmasqOn(h, "apply", policy)
			again, againMemory = append(again, wall), max(againMemory, memory)
		}
		b.clear(h)
		mb := func(v float64) string { return fmt.Sprintf("%.0f MB", v) }
		t.row(n, ms(nft.median()), mb(nftMemory), ms(cold.median()), target(cold.over(nft), 1), mb(coldMemory), ms(again.median()), mb(againMemory))
	}
	t.Flush()
	fmt.Printf("\nwhere the time goes, 1000000 addresses (last round):\n%s", steps)
}
