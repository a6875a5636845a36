package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

const commandsPage = "../../docs/commands.md"

// Every command has its section and every flag is described, no more and no
// less.
func TestEveryFlagIsDocumented(t *testing.T) {
	l := lab.New(t)
	c := newCLI(t, l, l.Host("anywhere"))
	_, list, ok := strings.Cut(c.run(t, 0, "help"), "Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	if !ok {
		t.Fatal("help lists no commands")
	}
	common := section(t, commandsPage, "## Flags that several commands have")
	flag := regexp.MustCompile(`--[a-z][a-z-]*`)
	offered := regexp.MustCompile(`(?m)^ +(?:-[a-z], )?(--[a-z][a-z-]*)`)
	others := regexp.MustCompile(`iptables\S* -.*`) // what doctor gives to run
	exists := map[string]bool{"--help": true}
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		own := section(t, commandsPage, "## "+name)
		help := c.run(t, 0, "help", name)
		_, options, _ := strings.Cut(help, "Flags:\n")
		_, below, _ := strings.Cut(help, "Commands:\n") // those of a command of commands
		below, _, _ = strings.Cut(below, "\n\n")
		for line := range strings.Lines(below) {
			_, more, _ := strings.Cut(c.run(t, 0, "help", name, strings.Fields(line)[0]), "Flags:\n")
			options += more
		}
		for _, m := range offered.FindAllStringSubmatch(options, -1) {
			f := m[1]
			exists[f] = true
			if !strings.Contains(own, f) && !strings.Contains(common, "`"+f+"`") {
				t.Errorf("docs/commands.md does not describe %s of %s", f, name)
			}
		}
		for _, f := range flag.FindAllString(others.ReplaceAllString(own, ""), -1) {
			if !strings.Contains(options, f) {
				t.Errorf("docs/commands.md gives %s the flag %s, which it does not have", name, f)
			}
		}
	}
	for _, f := range flag.FindAllString(common, -1) {
		if !exists[f] {
			t.Errorf("docs/commands.md describes %s, which no command has", f)
		}
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	l := lab.New(t)
	c := newCLI(t, l, l.Host("anywhere"))
	page := section(t, commandsPage, "## Exit codes")
	for line := range strings.Lines(c.run(t, 0, "help", "exit-codes")) {
		if line = strings.TrimSpace(line); line != "Exit codes:" && !strings.Contains(page, line+"\n") {
			t.Errorf("docs/commands.md lacks the exit code %q", line)
		}
	}
}

// Programs read what the page says that they may rely on.
func TestJSONIsDocumented(t *testing.T) {
	lab.Require(t, lab.NFTables())
	l := lab.New(t)
	gateway := l.Host("gateway")
	gateway.Stub("ppp0")
	gateway.Addr("ppp0", "203.0.113.2/24")
	c := newCLI(t, l, gateway)
	const path = folder + "/home.yaml"
	check := func(heading, output string) {
		t.Helper()
		page := section(t, commandsPage, "### "+heading)
		if heading == "status" {
			page += section(t, commandsPage, "### plan and apply")
		}
		if heading == "delete" || heading == "rollback" {
			page += section(t, commandsPage, "### plan and apply")
		}
		var data any
		if err := json.Unmarshal([]byte(output), &data); err != nil {
			t.Fatalf("%s: %v", heading, err)
		}
		for key := range fieldsOf(data) {
			if !strings.Contains(page, "`"+key+"`") {
				t.Errorf("docs/commands.md does not describe the field %s of %s", key, heading)
			}
		}
	}
	check("import", c.run(t, 2, "import", "-o", "json", "../../pkg/adopt/testdata/odd/rules.v4"))
	check("plan and apply", c.run(t, 2, "plan", "-o", "json", path))
	check("plan and apply", c.run(t, 0, "apply", "-o", "json", path))
	check("status", c.run(t, 0, "status", "-o", "json"))
	gateway.Sysctl("net.ipv4.ip_forward", "0")
	check("doctor", c.run(t, 2, "doctor", "-o", "json"))
	check("status", c.run(t, 2, "status", "-o", "json"))
	c.run(t, 0, "apply", path)
	none := filepath.Join(t.TempDir(), "none.yaml")
	if err := os.WriteFile(none, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("plan and apply", c.run(t, 0, "apply", "--confirm", "1h", "-o", "json", none))
	check("status", c.run(t, 0, "status", "-o", "json"))
	check("confirm", c.run(t, 0, "confirm", "-o", "json"))
	check("history", c.run(t, 0, "history", "-o", "json"))
	check("rollback", c.run(t, 0, "rollback", "--dry-run", "-o", "json"))
	check("render --format json", c.run(t, 0, "render", "--format", "json", path))
	check("delete", c.run(t, 0, "delete", "-o", "json"))
	check("explain", c.run(t, 0, "explain", "-o", "json", "--from", "lan", "--source", "192.168.1.7", "--destination", "203.0.113.9:443", "--protocol", "tcp", path))
	check("version", c.run(t, 0, "version", "-o", "json"))
}

// fieldsOf are the names of all fields of a JSON value, at any depth.
func fieldsOf(v any) map[string]bool {
	out := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				out[k] = true
				walk(x)
			}
		}
	}
	walk(v)
	return out
}
