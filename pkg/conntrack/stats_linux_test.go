package conntrack

import (
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

func TestCountOfNone(t *testing.T) {
	c := open(t)
	if entries, limit, err := c.Count(); err != nil || entries != 0 || limit == 0 {
		t.Errorf("%d of %d, %v", entries, limit, err)
	}
	if f, err := c.Failures(); err != nil || f != (Failures{}) {
		t.Errorf("%+v, %v", f, err)
	}
}

// Of three flows to one outside port, two are not taken in.
func TestFailures(t *testing.T) {
	h := lab.New(t).Host("gateway")
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	h.Feed(t, `add table ip x; add chain ip x y { type nat hook postrouting priority 100; }
add rule ip x y udp dport 53 snat to 127.0.0.9:1000
`, "nft", "-f", "-")
	c := openOn(t, h)
	h.ServeUDP("127.0.0.1:53")
	for i := range 3 {
		u, err := h.DialUDP("127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		within := lab.Patience
		if i > 0 {
			within = 50 * time.Millisecond // for what gets no port
		}
		if _, err := u.Exchange(within, "hello"); (err == nil) != (i == 0) {
			t.Errorf("packet %d: %v", i, err)
		}
	}
	f, err := c.Failures()
	if err != nil || f.Inserts != 2 || f.Drops != 2 || f.Found == 0 || f.Invalid != 0 {
		t.Errorf("%+v, %v", f, err)
	}
}
