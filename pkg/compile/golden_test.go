package compile_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/backend/nftables"
	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// TestGolden holds what each policy of testdata compiles to against x.nft, and
// what it is warned of against x.warn; no such file means no warning.
func TestGolden(t *testing.T) {
	t.Chdir("testdata")
	for _, name := range policies(t, ".", 25) {
		t.Run(name, func(t *testing.T) {
			p, facts := load(t, name+".yaml")
			r, err := compile.Compile(p, facts)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".nft", text(t, r))
			var warnings bytes.Buffer
			policy.Print(&warnings, r.Warnings, p.Sources)
			golden(t, name+".warn", warnings.Bytes())
			for _, w := range r.Warnings {
				checkMessage(t, w)
			}
		})
	}
}

// TestWrong holds what is printed for each wrong policy against x.out.
func TestWrong(t *testing.T) {
	t.Chdir("testdata/wrong")
	for _, name := range policies(t, ".", 20) {
		t.Run(name, func(t *testing.T) {
			p, facts := load(t, name+".yaml")
			_, err := compile.Compile(p, facts)
			errs, ok := errors.AsType[policy.Errors](err)
			if !ok {
				t.Fatalf("got %v, want errors", err)
			}
			var out bytes.Buffer
			policy.Print(&out, errs, p.Sources)
			golden(t, name+".out", out.Bytes())
			for _, e := range errs {
				checkMessage(t, e)
			}
		})
	}
}

// checkMessage holds a message to the form that all have.
func checkMessage(t *testing.T, e *policy.Error) {
	t.Helper()
	if e.Message == "" || strings.HasSuffix(e.Message, ".") || e.Line == 0 {
		t.Errorf("%s: %q needs a place, a text, and no full stop", e.Place, e.Message)
	}
}

// policies lists the policies of a folder by name, of which there are enough.
func policies(t testing.TB, dir string, enough int) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(names) < enough {
		t.Fatalf("%d policies in %s (%v)", len(names), dir, err)
	}
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], ".yaml")
	}
	return names
}

// load reads a policy. A first line as "# facts: eth1 10.0.0.1/24, ppp0
// point-to-point 203.0.113.1/32 default, local 10.9.0.0/16" tells what the host
// has, where its default route leads, and a local route.
func load(t testing.TB, name string) (*policy.Policy, compile.Facts) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(name, data)
	if err != nil {
		t.Fatal(err)
	}
	var facts compile.Facts
	line, _, _ := strings.Cut(string(data), "\n")
	if links, ok := strings.CutPrefix(line, "# facts: "); ok {
		facts.Host = true
		for link := range strings.SplitSeq(links, ", ") {
			words := strings.Fields(link)
			if words[0] == "local" {
				facts.Local = append(facts.Local, netip.MustParsePrefix(words[1]))
				continue
			}
			l := compile.Link{Name: words[0]}
			for _, a := range words[1:] {
				switch a {
				case "point-to-point":
					l.PointToPoint = true
					continue
				case "default":
					facts.DefaultRoutes = append(facts.DefaultRoutes, l.Name)
					continue
				}
				l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
			}
			facts.Links = append(facts.Links, l)
		}
	}
	return p, facts
}

func text(t testing.TB, r *compile.Result) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := nftables.Text(&out, r.Ruleset); err != nil {
		t.Fatal(err)
	}
	for _, u := range r.Uplinks {
		fmt.Fprintf(&out, "# rule %d: fwmark %#x/%#x lookup %d, for what came in by %s\n", u.Priority, u.Mark, u.Mask, u.Table, u.Interface)
	}
	for f, on := range []bool{r.IPv4, r.IPv6} {
		if on {
			out.WriteString([]string{"# forwards IPv4\n", "# forwards IPv6\n"}[f])
		}
	}
	return out.Bytes()
}

// golden compares with a file, which is not there where got is empty.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		var err error
		if len(got) == 0 {
			err = os.RemoveAll(name)
		} else {
			err = os.WriteFile(name, got, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil && !(errors.Is(err, os.ErrNotExist) && len(got) == 0) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, want)
	}
}
