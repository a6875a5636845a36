package examples_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
)

// What render prints, nft(8) must take, and it must then list the same rules
// as after an apply: nobody has to believe our own reading of them.
func TestRenderIsWhatApplyInstalls(t *testing.T) {
	lab.Require(t, lab.NFTables(), lab.Binary("nft"))
	for _, path := range examples(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			applied, loaded := l.Host("applied"), l.Host("loaded")
			wire(t, path, applied)
			wire(t, path, loaded)
			c := newCLI(t, l, applied)
			c.run(t, 0, "apply", path)
			text := newCLI(t, l, loaded).run(t, 0, "render", "--format", "nft", path)
			loaded.Feed(t, text, "nft", "-f", "-")
			want, got := listed(t, applied), listed(t, loaded)
			if want == "" || want != got {
				t.Errorf("apply installed:\n%s\nrender and nft installed:\n%s", want, got)
			}
			// Loaded twice it is there once.
			loaded.Feed(t, text, "nft", "-f", "-")
			if again := listed(t, loaded); again != got {
				t.Errorf("after the second load:\n%s", again)
			}
		})
	}
}

// wire gives a host the interfaces that a policy names, with an address in
// each network, so that what depends on them is compared too.
func wire(t *testing.T, path string, h *lab.Host) {
	t.Helper()
	p, err := policy.Load([]string{path}, policy.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1") // none: two hosts never have the same
	for _, z := range p.Zones {
		for i, x := range z.Interfaces {
			name := strings.Replace(x.String(), "*", "0", 1)
			if !h.HasLink(name) {
				h.Stub(name)
			}
			if z.Symmetric != nil && z.Symmetric.Gateway4.IsValid() {
				h.Addr(name, z.Symmetric.Gateway4.Next().String()+"/24")
			}
			if i < len(z.Networks) {
				address, bits := z.Networks[i].Low.Next(), 24
				if address.Is6() {
					bits = 64
				}
				h.Addr(name, fmt.Sprintf("%s/%d", address, bits))
			}
		}
	}
}

// listed is the table as nft lists it. The kernel keeps elements of hash sets
// in no order, so their lines are sorted.
func listed(t *testing.T, h *lab.Host) string {
	t.Helper()
	lines := strings.Split(h.Run(t, "nft", "list", "table", "inet", "ipmasq"), "\n")
	for i := 0; i < len(lines); i++ {
		if !strings.Contains(lines[i], "elements = {") {
			continue
		}
		end := i
		for !strings.HasSuffix(lines[end], "}") {
			end++
		}
		elements := lines[i : end+1]
		for j, e := range elements {
			e = strings.TrimSpace(e)
			e = strings.TrimPrefix(e, "elements = { ")
			elements[j] = strings.TrimRight(strings.TrimSuffix(e, "}"), ", ")
		}
		slices.SortFunc(elements, cmp.Compare[string])
		i = end
	}
	return strings.Join(lines, "\n")
}
