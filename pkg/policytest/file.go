// Package policytest is the tests of a policy: packets, and what is expected to
// become of them. It reads test files, makes up the gateway that they are about,
// and sends their packets through it by simulation.
//
// A test file is as strict as a policy. What a file leaves out of the host is
// made up from the policy (see [Host.Build]), so that most files describe none.
package policytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// Suffix is what the names of test files end in.
const Suffix = ".test.yaml"

// File is one test file.
type File struct {
	Name string
	// Policies are the paths of the policy's files.
	Policies   []string
	PoliciesAt policy.Place
	Host       *Host // nil: all of it is made up
	Tests      []Test
	Sources    []policy.Source
}

// Test is one test: packets that all meet the same expectations.
type Test struct {
	policy.Place
	Name    string
	Packets []Packet
	Expect  Expect
}

// Packet is a packet to send.
type Packet struct {
	policy.Place
	simulate.Packet
	at places
}

// places are those of keys.
type places map[string]policy.Place

// of is the place of a key, else of what has it.
func (p places) of(key string, otherwise policy.Place) policy.Place {
	if at, ok := p[key]; ok {
		return at
	}
	return otherwise
}

// Expect is what is expected of a packet. What is nil or empty is not looked at.
type Expect struct {
	policy.Place
	Verdict simulate.Verdict // "": it passes, to another host or to the gateway
	Entries []Entry          // all of them have a part in it
	To      string           // zone or gateway
	// Interface is what it leaves by.
	Interface           string
	Source, Destination Addresses
	SourcePort, Port    Ports
	Mark                *policy.Mark
	at                  places
}

// Entry is an entry by its section and name.
type Entry struct {
	policy.Place
	Name string
}

// Addresses are those that one may be among; Same: what it was.
type Addresses struct {
	List []policy.Address
	Same bool
}

// Ports are those that one may be among; Same: what it was.
type Ports struct {
	List []policy.Ports
	Same bool
}

const emptyFile = "the file is empty; it takes `tests`, a list of tests"

// Load reads a test file. Mistakes come back as [*Invalid].
func Load(name string) (*File, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	return Parse(name, text)
}

// Parse reads a test file from memory.
func Parse(name string, text []byte) (*File, error) {
	r := policy.NewReader(name, text, emptyFile)
	f := &File{Name: name, Sources: r.Sources()}
	if root := r.Root(); root != nil {
		r.Takes("a test file is a mapping with `tests`")
		m, ok := policy.ReadMapping(r, root, fileKeys(), f)
		if ok {
			m.Require("a test file", "tests")
		}
		if ok && !m.Has("policy") {
			f.defaultPolicy(r)
		}
	}
	return f, invalid(r)
}

// defaultPolicy is NAME.yaml of NAME.test.yaml.
func (f *File) defaultPolicy(r *policy.Reader) {
	base, ok := strings.CutSuffix(f.Name, Suffix)
	f.PoliciesAt = policy.Place{File: f.Name, Line: 1, Column: 1}
	if !ok {
		r.FailAt(f.PoliciesAt, "`policy` is missing, and the file's name does not tell it: that of a test file is NAME"+Suffix)
		return
	}
	f.Policies = []string{base + ".yaml"}
}

func fileKeys() []policy.Key[File] {
	return []policy.Key[File]{
		{Name: "policy", Takes: "the path of a policy file, or a list of paths", Read: func(r *policy.Reader, n *policy.Node, f *File) {
			f.PoliciesAt = r.At(n)
			r.Each(n, func(n *policy.Node) {
				path, ok := r.Text(n)
				if ok && !filepath.IsAbs(path) {
					path = filepath.Join(filepath.Dir(f.Name), path)
				}
				f.Policies = append(f.Policies, path)
			})
		}},
		{Name: "host", Takes: "a mapping with `links`, `routes` and `rules`", Read: func(r *policy.Reader, n *policy.Node, f *File) {
			f.Host = &Host{}
			readHost(r, n, f.Host)
		}},
		{Name: "tests", Takes: "a list of tests", Read: func(r *policy.Reader, n *policy.Node, f *File) {
			names := map[string]policy.Place{}
			r.List(n, func(n *policy.Node) {
				t := readTest(r, n)
				if first, ok := names[t.Name]; ok && t.Name != "" {
					r.FailAt(t.Place, fmt.Sprintf("two tests have the name %q; choose another one", t.Name), policy.Note{Place: first, Message: "the other one"})
				}
				names[t.Name] = t.Place
				f.Tests = append(f.Tests, t)
			})
			if len(f.Tests) == 0 {
				r.Fail(n, "there is no test in the list; write one")
			}
		}},
	}
}

func readTest(r *policy.Reader, n *policy.Node) Test {
	t := Test{Place: r.At(n)}
	r.Takes("a test is a mapping with `name`, `packet` and `expect`")
	m, ok := policy.ReadMapping(r, n, []policy.Key[Test]{
		{Name: "name", Takes: "a text", Read: func(r *policy.Reader, n *policy.Node, t *Test) {
			text, ok := r.Text(n)
			if t.Name = text; ok && strings.TrimSpace(t.Name) == "" {
				r.Fail(n, "the name is empty")
			}
		}},
		{Name: "packet", Takes: "a packet, or a list of packets", Read: func(r *policy.Reader, n *policy.Node, t *Test) {
			r.Each(n, func(n *policy.Node) { t.Packets = append(t.Packets, readPackets(r, n)...) })
		}},
		{Name: "expect", Takes: "a mapping of what is expected", Read: readExpect},
	}, &t)
	if ok {
		m.Require("a test", "name", "packet", "expect")
	}
	// Of two packets from one port the kernel would give one another port.
	for i := range t.Packets {
		if p := &t.Packets[i]; simulate.HasPorts(p.Protocol) && p.SourcePort == 0 {
			p.SourcePort = simulate.DefaultSourcePort + uint16(i)
		}
	}
	return t
}
