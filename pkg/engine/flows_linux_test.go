package engine_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/test/lab"
)

// sources lists the inside hosts that have a translated flow.
func (b *bench) translated() []string {
	b.t.Helper()
	var out []string
	err := b.NetNS.Do(func() error {
		c, err := conntrack.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Translated(func(f conntrack.Flow) bool {
			out = append(out, f.Original.Source.String())
			return true
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// Docker and libvirt masquerade on the same host: their flows must live on
// when ipmasq goes, and ours must not, for they would leave untranslated.
func TestDeleteCutsOurFlowsOnly(t *testing.T) {
	for _, c := range []struct{ name, networks string }{
		{"a zone with networks", ", networks: [192.168.1.0/24]"},
		{"a zone with nothing but interfaces", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			topo := lab.Gateway(t, lab.WithoutDMZ())
			lab.Require(t, lab.NFTables(), lab.Binary("nft"))
			b := benchOn(t, topo.GW, filepath.Join(topo.Dir(), "state"))
			b.host.Run(t, "nft", `add table ip foreign; add chain ip foreign post { type nat hook postrouting priority srcnat; }; `+
				`add rule ip foreign post ip saddr 10.99.0.0/24 oifname eth0 masquerade`)
			text := `version: 1
zones:
  lan: {interfaces: [eth1]` + c.networks + `}
  wan: {interfaces: [eth0]}
masquerade:
  - {from: lan, to: wan}
port_forward:
  - {name: web, from: wan, protocol: tcp, ports: 80, to: ["192.168.1.11:8080", "192.168.1.10:8080"]}
`
			b.mustApply(text)
			server := topo.Server.ServeTCP(lab.Outside + ":7")
			topo.LAN1.ServeTCP(lab.LAN1 + ":8080")
			topo.LAN2.ServeTCP(lab.LAN2 + ":8080")
			ours, err := topo.LAN1.DialTCP(lab.Patience, server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := topo.Guest.DialTCP(lab.Patience, server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := topo.Server.DialTCP(lab.Patience, lab.GatewayUplink+":80"); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := b.translated(), []string{lab.Guest, lab.LAN1, lab.Outside, lab.Outside}; !slices.Equal(got, want) {
				t.Fatalf("translated flows of %v, want %v", got, want)
			}
			counted(t, b, "masquerade lan-wan", 1)
			counted(t, b, "port_forward web", 2)

			// Counters go on through an apply that changes nothing, and one that
			// changes something else.
			b.mustApply(text)
			b.mustApply(text + "forward:\n  rules:\n    - {name: no-smtp, from: lan, to: wan, protocol: tcp, ports: 25, action: reject}\n")
			counted(t, b, "masquerade lan-wan", 1)
			counted(t, b, "port_forward web", 2)
			if err := ours.Echo(lab.Patience, "still there"); err != nil {
				t.Errorf("apply cut a flow: %v", err)
			}

			dry, err := b.Delete(context.Background(), true)
			if err != nil || dry.Flows != 3 {
				t.Errorf("delete --dry-run: %+v, %v", dry, err)
			}
			b.host.Sysctl("net.ipv4.conf.eth9.forwarding", "1")
			d := b.mustDelete()
			if d.Flows != 3 {
				t.Errorf("%d flows cut, want 3", d.Flows)
			}
			if got, want := b.translated(), []string{lab.Guest}; !slices.Equal(got, want) {
				t.Errorf("translated flows left: %v, want %v", got, want)
			}
			topo.Forwarding(true)
			if err := theirs.Echo(lab.Patience, "still there"); err != nil {
				t.Errorf("delete cut a foreign flow: %v", err)
			}
		})
	}
}

func counted(t *testing.T, b *bench, entry string, flows uint64) {
	t.Helper()
	s, err := b.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Entries {
		if e.Section+" "+e.Name == entry {
			if e.Flows != flows {
				t.Errorf("%s: %d flows, want %d", entry, e.Flows, flows)
			}
			return
		}
	}
	var names []string
	for _, e := range s.Entries {
		names = append(names, e.Section+" "+e.Name)
	}
	t.Errorf("status knows no %s: %s", entry, strings.Join(names, ", "))
}
