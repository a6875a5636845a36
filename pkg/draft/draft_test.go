package draft_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/draft"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/policy"
)

var update = flag.Bool("update", false, "write the drafts of testdata")

// TestHosts holds the draft of each host against the one beside it, with what
// goes to stderr at its end.
func TestHosts(t *testing.T) {
	for _, path := range hosts(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".host"), func(t *testing.T) {
			h := readHost(t, path)
			d, err := draft.Write(h)
			if err != nil {
				t.Fatal(err)
			}
			got := bytes.Clone(d.Text)
			for _, hint := range d.Hints {
				got = append(got, "#hint: "+hint+"\n"...)
			}
			golden := strings.TrimSuffix(path, ".host") + ".yaml"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the draft is:\n%s", got)
			}
			silent(t, h, d.Text)
			safe(t, d.Text)
			// Every example that stands behind a # is right for this host, too.
			silent(t, h, regexp.MustCompile(`(?m)^( *)#([^ \n])`).ReplaceAll(d.Text, []byte("$1$2")))
		})
	}
}

func parsed(t *testing.T, text []byte) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", text)
	var errs policy.Errors
	if errors.As(err, &errs) {
		var b strings.Builder
		policy.Print(&b, errs, p.Sources)
		t.Fatalf("%s\n%s", text, b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// silent checks that a policy is valid, on its host and on a desk, and that
// nothing warns of it.
func silent(t *testing.T, h draft.Host, text []byte) {
	t.Helper()
	p := parsed(t, text)
	facts := engine.CompileFacts(h.Facts)
	if h.Session != nil {
		facts.Session = &compile.Session{Client: h.Session.Client, Server: h.Session.Server, Interface: sessionInterface(h)}
	}
	for _, f := range []compile.Facts{facts, {}} {
		r, err := compile.Compile(p, f)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, w := range r.Warnings {
			t.Errorf("warning: %v\n%s", w, text)
		}
	}
}

// sessionInterface is where the way back to the client leaves.
func sessionInterface(h draft.Host) string {
	client := h.Session.Client.Addr()
	for _, l := range h.Links {
		for _, a := range l.Addresses {
			if a.Prefix.Contains(client) {
				return l.Name
			}
		}
	}
	for _, r := range h.Defaults {
		return r.Interface
	}
	return ""
}

// safe checks that a draft touches nobody's way in, and opens none.
func safe(t *testing.T, text []byte) {
	t.Helper()
	p := parsed(t, text)
	if p.Input != nil {
		t.Error("the draft has an input")
	}
	if len(p.PortForward)+len(p.OneToOne)+len(p.Redirect) > 0 {
		t.Error("the draft opens something")
	}
	if p.Forward.Default != policy.Drop {
		t.Error("the draft lets everything pass")
	}
	outside := map[string]bool{}
	for _, m := range p.Masquerade {
		for _, z := range m.To {
			outside[z.Name] = true
		}
	}
	for _, r := range p.Forward.Rules {
		for _, z := range r.From {
			within := len(r.To) == 1 && r.To[0].Name == z.Name
			if outside[z.Name] && !within {
				t.Errorf("the rule %s lets something in", r.Name)
			}
		}
		if len(r.From) == 0 && r.Name != "containers" {
			t.Errorf("the rule %s lets something in", r.Name)
		}
	}
}

func TestNoLinks(t *testing.T) {
	if _, err := draft.Write(draft.Host{}); !errors.Is(err, draft.ErrNoLinks) {
		t.Errorf("got %v", err)
	}
}
