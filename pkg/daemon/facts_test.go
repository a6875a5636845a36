package daemon

import (
	"net/netip"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/link"
)

// What matters makes another digest, and is named; what does not, does not.
func TestFacts(t *testing.T) {
	t.Parallel()
	facts := func(change func(*link.Facts)) link.Facts {
		f := link.Facts{
			Links: []link.Link{
				{Name: "eth0", Index: 2, Up: true, Carrier: true, Addresses: []link.Address{{Prefix: netip.MustParsePrefix("203.0.113.2/24")}}},
				{Name: "eth1", Index: 3, Up: true},
			},
			Defaults: []link.DefaultRoute{{Family: link.IPv4, Interface: "eth0", Gateway: netip.MustParseAddr("203.0.113.1"), Table: link.MainTable}},
		}
		if change != nil {
			change(&f)
		}
		return f
	}
	before := facts(nil)
	for text, change := range map[string]func(*link.Facts){
		"": nil,
		"eth0 has 203.0.113.7/24, eth0 no longer has 203.0.113.2/24": func(f *link.Facts) {
			f.Links[0].Addresses[0].Prefix = netip.MustParsePrefix("203.0.113.7/24")
		},
		"eth1 went down": func(f *link.Facts) { f.Links[1].Up = false },
		"eth1 is gone":   func(f *link.Facts) { f.Links = f.Links[:1] },
		"br-x is new":    func(f *link.Facts) { f.Links = append(f.Links, link.Link{Name: "br-x", Index: 4}) },
		"the default route is 192.0.2.1 on eth1": func(f *link.Facts) {
			f.Defaults[0].Interface, f.Defaults[0].Gateway = "eth1", netip.MustParseAddr("192.0.2.1")
		},
		"the default route is gone": func(f *link.Facts) { f.Defaults = nil },
		"routes":                    func(f *link.Facts) { f.Hops = []link.Hop{{}} },
	} {
		after := facts(change)
		if changed := digest(before) != digest(after); changed != (text != "") {
			t.Errorf("%q: another digest: %v", text, changed)
		}
		if got := differences(before, after); text != "" && got != text {
			t.Errorf("named %q, want %q", got, text)
		}
	}
	// A carrier comes and goes; an address is renewed.
	if digest(before) != digest(facts(func(f *link.Facts) { f.Links[0].Carrier = false; f.Links[0].Addresses[0].Deprecated = true })) {
		t.Error("what does not matter makes another digest")
	}
}
