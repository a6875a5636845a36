package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write puts files in a new folder and gives its path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// printed is what Print writes of an error of Load, without the folder.
func printed(t *testing.T, dir string, p *Policy, err error) string {
	t.Helper()
	errs, ok := err.(Errors)
	if !ok {
		t.Fatalf("got %v, want Errors", err)
	}
	var b bytes.Buffer
	Print(&b, errs, p.Sources)
	return strings.ReplaceAll(b.String(), dir+string(filepath.Separator), "")
}

func TestMerge(t *testing.T) {
	dir := write(t, map[string]string{
		"20-wan.yaml": `version: 1
zones: {wan: {interfaces: ppp0}}
masquerade: {from: lan, to: wan}
forward: {default: reject, rules: {name: b, action: accept}}
gateway: {forwarding: {ipv6: false}}
`,
		"10-lan.yaml": `version: 1
zones: {lan: {interfaces: eth1}}
sets: {bad: {file: lists/bad.txt}, worse: {file: lists/bad.txt}}
forward: {default: reject, rules: {name: a, sources: "@bad", action: drop}}
gateway: {forwarding: {ipv4: true}}
`,
		"lists/bad.txt":    "192.0.2.1\n",
		".hidden.yaml":     "no policy",
		"README.md":        "no policy",
		"30-folder.yaml/x": "no policy",
	})
	p := good(t, dir)
	var zones, rules, sources []string
	for _, z := range p.Zones {
		zones = append(zones, z.Name)
	}
	for _, r := range p.Forward.Rules {
		rules = append(rules, r.Name)
	}
	for _, s := range p.Sources {
		sources = append(sources, strings.TrimPrefix(s.Name, dir+"/"))
	}
	equal(t, "zones", strings.Join(zones, " "), "lan wan")
	equal(t, "rules", strings.Join(rules, " "), "a b")
	equal(t, "sources", strings.Join(sources, " "), "10-lan.yaml lists/bad.txt 20-wan.yaml")
	if p.Forward.Default != Reject || *p.Gateway.ForwardIPv6 || !*p.Gateway.ForwardIPv4 || len(p.Set("worse").Addresses) != 1 {
		t.Errorf("%+v", p)
	}
	// The order of the paths is the order of the rules.
	p = good(t, filepath.Join(dir, "20-wan.yaml"), filepath.Join(dir, "10-lan.yaml"))
	if p.Forward.Rules[0].Name != "b" {
		t.Errorf("first rule: %s", p.Forward.Rules[0].Name)
	}
}

func TestMergeMistakes(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": `version: 1
zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
sets: {bad: 192.0.2.1}
masquerade: {from: lan, to: wan}
forward: {default: reject}
gateway: {forwarding: {ipv4: true}}
`,
		"b.yaml": `zones: {lan: {interfaces: eth2}}
sets: {bad: 192.0.2.2}
masquerade: {from: lan, to: wan}
forward: {default: accept}
gateway: {forwarding: {ipv4: false}}
`,
	})
	p, err := Load([]string{dir}, LoadOptions{})
	equal(t, "printed", printed(t, dir, p, err), `
b.yaml:1:1: `+"`version` is missing; begin the file with `version: 1`"+`
    zones: {lan: {interfaces: eth2}}
    ^
b.yaml:1:9: the zone "lan" is declared twice; choose another name, or join the two
    zones: {lan: {interfaces: eth2}}
            ^
a.yaml:2:9: note: first declared here
    zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
            ^
b.yaml:2:8: the set "bad" is declared twice; choose another name, or join the two
    sets: {bad: 192.0.2.2}
           ^
a.yaml:3:8: note: first declared here
    sets: {bad: 192.0.2.1}
           ^
b.yaml:3:13: "lan-wan" would be the name of this entry of masquerade, and another has it; give this one a `+"`name`"+`
    masquerade: {from: lan, to: wan}
                ^
a.yaml:4:13: note: the other entry
    masquerade: {from: lan, to: wan}
                ^
b.yaml:4:20: `+"`default`"+` is accept here and reject elsewhere; write it in one file
    forward: {default: accept}
                       ^
a.yaml:5:20: note: the other one
    forward: {default: reject}
                       ^
b.yaml:5:30: `+"`ipv4`"+` is false here and true elsewhere; write it in one file
    gateway: {forwarding: {ipv4: false}}
                                 ^
a.yaml:6:30: note: the other one
    gateway: {forwarding: {ipv4: true}}
                                 ^`)
}

// TestBrokenFileHidesNothing: a file that is no YAML does not keep the mistakes
// of another from being found, nor makes its own zones look undeclared.
func TestBrokenFileHidesNothing(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": "version: 1\nzones: {lan: [\n",
		"b.yaml": "version: 1\nmasquerade: {from: lan, to: wan, ports: 0}\n",
	})
	p, err := Load([]string{dir}, LoadOptions{})
	got := printed(t, dir, p, err)
	if !strings.Contains(got, "a.yaml:3:1: not YAML") && !strings.Contains(got, "a.yaml:2:") || !strings.Contains(got, "b.yaml:2:41: 0 is not a port") || strings.Contains(got, "no zone") {
		t.Error(got)
	}
}

func TestStdin(t *testing.T) {
	p, err := Load([]string{"-"}, LoadOptions{Stdin: strings.NewReader("version: 1\nzone: {}\n")})
	equal(t, "printed", printed(t, "", p, err), `
<stdin>:2:1: unknown key "zone"; did you mean "zones"?
    zone: {}
    ^`)
	p, err = Load([]string{"-"}, LoadOptions{Stdin: strings.NewReader("version: 1\nsets: {bad: {file: testdata/blocked.txt}}\n")})
	if err != nil || len(p.Set("bad").Addresses) != 4 {
		t.Errorf("%v, %+v", err, p)
	}
}

func TestUnreadable(t *testing.T) {
	dir := write(t, map[string]string{"a.yml": "version: 1\n", "p.yaml": "version: 1\n"})
	empty := t.TempDir()
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{nil, "read policy: no file is given"},
		{[]string{"-"}, "read policy: there is no standard input to read"},
		{[]string{empty}, "read policy: no *.yaml file in the directory " + empty},
		{[]string{dir, dir + "/p.yaml"}, "read policy: " + dir + "/p.yaml is given twice"},
		{[]string{"-", "-"}, "read policy: - is given twice"},
		{[]string{dir + "/missing"}, "read policy: stat " + dir + "/missing: no such file or directory"},
	} {
		_, err := Load(c.paths, LoadOptions{})
		if _, ok := err.(Errors); ok || err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %s", c.paths, err, c.want)
		}
	}
	if _, err := Load([]string{dir + "/missing"}, LoadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

// TestReferredFiles: what a policy names must be a file with an end.
func TestReferredFiles(t *testing.T) {
	dir := write(t, map[string]string{"p.yaml": "version: 1\nsets: {a: {file: /dev/zero}, b: {file: .}, c: {file: missing}, d: {file: \"\"}}\n"})
	p, err := Load([]string{dir}, LoadOptions{})
	got := printed(t, dir, p, err)
	for _, want := range []string{
		`p.yaml:2:18: cannot read "/dev/zero": it is not a regular file`,
		`p.yaml:2:40: cannot read "` + dir + `": it is a directory`,
		`p.yaml:2:54: cannot read "missing": no such file or directory`,
		"p.yaml:2:74: `file` is empty",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nis missing in\n%s", want, got)
		}
	}
}

// TestManyMistakes: the number of mistakes has no bound but the file's.
func TestManyMistakes(t *testing.T) {
	text := "version: 1\nsets: {bad: {file: bad.txt}}\n"
	_, err := parse("p.yaml", []byte(text), always([]byte(strings.Repeat("10.0.0.256\n", 10_000))))
	if errs, _ := err.(Errors); len(errs) != 10_000 {
		t.Errorf("%d errors", len(errs))
	}
}

// TestTerminal: what a policy holds cannot steer the terminal it is shown on.
func TestTerminal(t *testing.T) {
	p, err := parse("p.yaml", []byte("version: 1\nsets: {bad: {file: x}}\n"), always([]byte("\x1b[2J\x00\xff\n")))
	got := printed(t, "", p, err)
	if strings.ContainsAny(got, "\x1b\x00") || !strings.Contains(got, "?[2J??") {
		t.Errorf("%q", got)
	}
}

// TestPlaces is the same text with its own columns, in characters of more than
// one byte.
func TestPlaces(t *testing.T) {
	p, err := Parse("p.yaml", []byte("version: 1\n# ñ\nzones: {lan: {interfaces: [ü0, ñ1, eth0]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range p.Zones[0].Interfaces {
		line := bytes.Split(p.Sources[0].Text, []byte("\n"))[i.Line-1]
		if !bytes.HasPrefix(line[i.Column-1:], []byte(i.Name)) {
			t.Errorf("%s is not at %s", i.Name, i.Place)
		}
	}
}

// TestMergeSettings: what several files say of input and of the gateway comes
// together, and may not differ.
func TestMergeSettings(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": `version: 1
zones: {lan: {interfaces: eth1}, wan: {interfaces: ppp0}}
snat: {name: a, from: lan, to: wan, addresses: 192.0.2.1}
input: {default: reject, rules: {name: a, action: accept}}
gateway: {backend: auto, conntrack: {max: 9, timeouts: {udp: {replied: 1m}}}, offload: {zones: lan}, reserved_ports: 500}
`,
		"b.yaml": `version: 1
snat: {name: b, from: lan, to: wan, addresses: 192.0.2.2}
input: {default: reject, rules: {name: b, action: accept}}
gateway: {backend: auto, conntrack: {max: 9, accounting: true, timeouts: {icmp: 9s, udp: {unreplied: 2m, replied: 1m}}}, offload: {zones: [lan, wan], hardware: true}, reserved_ports: [501, 502]}
`,
	})
	p := good(t, dir)
	g := p.Gateway
	equal(t, "reserved ports", portList(g.ReservedPorts), "500@5:118 501@4:185 502@4:190")
	equal(t, "offload", fmt.Sprint(refs(g.Offload.Zones), " ", g.Offload.Hardware), "lan@5:96 wan@4:145 true")
	equal(t, "conntrack", fmt.Sprint(g.Conntrack.Max, *g.Conntrack.Accounting, len(g.Conntrack.Timeouts.UDP), g.Conntrack.Timeouts.ICMP), "9 true 2 9s")
	if len(p.Input.Rules) != 2 || p.Input.Default != Reject || len(p.SNAT) != 2 {
		t.Errorf("%+v, %+v", p.Input, p.SNAT)
	}

	more := filepath.Join(t.TempDir(), "c.yaml")
	err := os.WriteFile(more, []byte(`version: 1
snat: {name: a, from: lan, to: wan, addresses: 192.0.2.3}
input: {default: drop, rules: {name: b, action: drop}}
gateway: {backend: nftables, conntrack: {max: 8, accounting: false, timeouts: {icmp: 2h4m, udp: {replied: 2m}}}, offload: {hardware: false}, reserved_ports: 500-501}
`), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p, err = Load([]string{dir, more}, LoadOptions{})
	var got []string
	for line := range strings.Lines(printed(t, dir, p, err)) {
		if strings.Contains(line, ": ") && !strings.HasPrefix(line, " ") {
			got = append(got, strings.TrimPrefix(strings.TrimSpace(line), filepath.Dir(more)+"/"))
		}
	}
	equal(t, "mistakes", strings.Join(got, "\n"), `
b.yaml:4:185: 500-501 and 501 overlap in `+"`"+`reserved_ports`+"`"+`; name each port once
c.yaml:4:158: note: the other one
c.yaml:2:14: the name "a" is taken in snat; choose another
a.yaml:3:14: note: first used here
c.yaml:3:18: `+"`"+`default`+"`"+` is drop here and reject elsewhere; write it in one file
a.yaml:4:18: note: the other one
c.yaml:3:38: the name "b" is taken in input.rules; choose another
b.yaml:3:40: note: first used here
c.yaml:4:20: `+"`"+`backend`+"`"+` is nftables here and auto elsewhere; write it in one file
a.yaml:5:20: note: the other one
c.yaml:4:47: `+"`"+`max`+"`"+` is 8 here and 9 elsewhere; write it in one file
a.yaml:5:43: note: the other one
c.yaml:4:62: `+"`"+`accounting`+"`"+` is false here and true elsewhere; write it in one file
b.yaml:4:58: note: the other one
c.yaml:4:86: `+"`"+`icmp`+"`"+` is 2h4m here and 9s elsewhere; write it in one file
b.yaml:4:81: note: the other one
c.yaml:4:107: `+"`"+`replied`+"`"+` is 2m here and 1m elsewhere; write it in one file
a.yaml:5:72: note: the other one
c.yaml:4:134: `+"`"+`hardware`+"`"+` is false here and true elsewhere; write it in one file
b.yaml:4:161: note: the other one
c.yaml:4:158: 500 and 500-501 overlap in `+"`"+`reserved_ports`+"`"+`; name each port once
a.yaml:5:118: note: the other one
`)
}
