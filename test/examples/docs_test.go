package examples_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/test/lab"
)

// block is a code block of a document.
type block struct {
	doc  string
	line int
	lang string // the first word behind the fence
	word string // the second
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.doc, b.line) }

// documents are the pages that people read.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return append(pages, "../../README.md", "../../CONTRIBUTING.md")
}

// blocks reads the code blocks of a document.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case !isFence && open != nil:
			open.text += line + "\n"
		case isFence && open != nil:
			all = append(all, *open)
			open = nil
		case isFence:
			lang, word, _ := strings.Cut(fence, " ")
			open = &block{doc: filepath.Base(path), line: i + 1, lang: lang, word: word}
		}
	}
	if open != nil {
		t.Errorf("%v: a code block without an end", open)
	}
	return all
}

// shown is a policy of a document. What a block leaves out comes from the
// page's base.
type shown struct {
	block
	paths   []string
	message string // of the block behind it, where it is wrong or warns
}

// policies are the policies that a document shows, written to files.
func policies(t *testing.T, path string) []shown {
	t.Helper()
	all := blocks(t, path)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	base := ""
	var out []shown
	for i, b := range all {
		if b.lang != "yaml" || strings.HasSuffix(b.word, ".yaml") {
			continue // what has a name is a file of a test, see TestDocumentedTests
		}
		folder := fmt.Sprint(b.line)
		s := shown{block: b}
		switch b.word {
		case "", "base", "wrong", "warning":
		default:
			t.Errorf("%v: %q is none of base, wrong and warning", b, b.word)
		}
		if b.word == "wrong" || b.word == "warning" {
			if i+1 == len(all) || all[i+1].lang != "text" {
				t.Errorf("%v: the message is to stand in a text block behind it", b)
				continue
			}
			s.message = all[i+1].text
		}
		if b.word == "base" {
			base = b.text
		}
		if !strings.Contains(b.text, "version: 1\n") {
			if base == "" {
				t.Errorf("%v: no policy, and the page has no base", b)
				continue
			}
			s.paths = append(s.paths, write(folder+"/base.yaml", base))
			b.text = "version: 1\n" + b.text
		}
		s.paths = append(s.paths, write(folder+"/policy.yaml", b.text))
		for _, f := range all {
			if f.lang == "text" && f.word != "" {
				write(folder+"/"+f.word, f.text)
			}
		}
		out = append(out, s)
	}
	return out
}

// links are those of the host that the policies of documents are for.
func links() []compile.Link {
	link := func(name, address string) compile.Link {
		return compile.Link{Name: name, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}}
	}
	return []compile.Link{link("eth0", "203.0.113.2/24"), link("eth1", "192.168.1.1/24"), link("eth2", "192.168.2.1/24"), link("eth3", "192.0.2.2/24")}
}

// printed loads and compiles a policy, and gives the messages and warnings as
// a user sees them.
func printed(t *testing.T, s shown) (mistakes, warnings string) {
	t.Helper()
	p, err := policy.Load(s.paths, policy.LoadOptions{})
	var r *compile.Result
	if err == nil {
		facts := compile.Facts{}
		if s.word == "warning" {
			facts.Links = links()
		}
		r, err = compile.Compile(p, facts)
	}
	text := func(errs policy.Errors) string {
		var b strings.Builder
		policy.Print(&b, errs, p.Sources)
		return strings.ReplaceAll(b.String(), filepath.Dir(s.paths[0])+"/", "")
	}
	if err != nil {
		errs, ok := err.(policy.Errors)
		if !ok {
			t.Fatalf("%v: %v", s, err)
		}
		return text(errs), ""
	}
	return "", text(r.Warnings)
}

// Each policy in a document is valid, and each wrong one fails as it says.
func TestDocumentedPolicies(t *testing.T) {
	for _, path := range documents(t) {
		for _, s := range policies(t, path) {
			mistakes, warnings := printed(t, s)
			holds := func(have string) {
				for line := range strings.Lines(s.message) {
					if !strings.Contains(have, line[:len(line)-1]) {
						t.Errorf("%v: the message does not hold %q; it is\n%s", s, line, have)
					}
				}
			}
			switch {
			case s.word == "wrong" && mistakes == "":
				t.Errorf("%v: it is valid", s)
			case s.word == "wrong":
				holds(mistakes)
			case mistakes != "":
				t.Errorf("%v: it is invalid:\n%s", s, mistakes)
			case s.word == "warning":
				holds(warnings)
			case warnings != "":
				t.Errorf("%v: it warns:\n%s", s, warnings)
			}
		}
	}
}

// The kernel takes each policy that a document shows, one after the other on
// one host, as somebody who tries them out would have it.
func TestDocumentedPoliciesApply(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	gateway := l.Host("gateway")
	for _, link := range links() {
		gateway.Stub(link.Name)
		gateway.Addr(link.Name, link.Addresses[0].String())
	}
	gateway.Route("default", "203.0.113.1")
	// The pools of the pages, or each would be warned of.
	for n := range 40 {
		gateway.Addr("eth0", fmt.Sprintf("203.0.113.%d/32", n+3), fmt.Sprintf("2001:db8:5::%x/128", n))
	}
	c := newCLI(t, l, gateway)
	for _, path := range documents(t) {
		for _, s := range policies(t, path) {
			if s.word == "wrong" || s.word == "warning" {
				continue
			}
			t.Logf("%v", s)
			if strings.Contains(s.text, "offload:") && !gateway.HasFlowtables() {
				c.run(t, 1, append([]string{"plan"}, s.paths...)...)
				continue
			}
			if strings.Contains(s.text, "conntrack: {max: ") {
				// It is the machine's; TestVMConntrackMax applies it to a machine.
				c.run(t, 3, append([]string{"plan"}, s.paths...)...)
				continue
			}
			if strings.Contains(s.text, "docker: accept") {
				withDocker(t, gateway)
			}
			c.run(t, 0, append([]string{"apply"}, s.paths...)...)
			c.run(t, 0, "status")
			if out := c.run(t, 0, append([]string{"plan"}, s.paths...)...); !strings.HasPrefix(out, "no difference") {
				t.Errorf("%v: after apply there is a difference:\n%s", s, out)
			}
		}
	}
	c.run(t, 0, "delete")
	clean(t, c)
}

// withDocker gives a host the chain that Docker leaves to users, without which
// there is a hint.
func withDocker(t *testing.T, h *lab.Host) {
	t.Helper()
	lab.Require(t, lab.Binary("iptables-nft-restore"))
	h.Feed(t, "*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n", "iptables-nft-restore", "--noflush")
	t.Cleanup(func() {
		if rules := h.Run(t, "iptables-nft", "-S", "DOCKER-USER"); strings.Contains(rules, "-A") {
			t.Errorf("delete left in DOCKER-USER\n%s", rules)
		}
	})
}
