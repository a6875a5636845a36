package examples_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/built"
	"github.com/ipmasq/ipmasq/test/lab"
	"github.com/ipmasq/ipmasq/test/variant"
)

// refusedByIPTables are the examples that the other backend cannot have, and what
// it says. One that it can have is not to be here.
func refusedByIPTables() map[string]string {
	return map[string]string{
		"router.yaml":  "counts IPv4 and IPv6 apart",
		"vm-host.yaml": "an address that conntrack does not know of",
	}
}

// The examples pass their tests on both variants of iptables, too.
func TestExamplesOnIPTables(t *testing.T) {
	for _, variant := range []string{"iptables-legacy", "iptables-nft"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			lab.Require(t, lab.NFTables(), lab.Binary(variant))
			l := lab.New(t)
			host, dir := l.Host("anywhere"), t.TempDir()
			program := asIPTables(t, dir, variant)
			if err := os.CopyFS(dir+"/examples", os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
			for _, path := range examples(t) {
				name := filepath.Base(path)
				t.Run(name, func(t *testing.T) {
					file := filepath.Join(dir, "examples", name)
					onIPTables(t, file)
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					out, err := host.Command(ctx, program, "test", "--kernel", file).CombinedOutput()
					switch refused := refusedByIPTables()[name]; {
					case refused == "" && err != nil:
						t.Errorf("%v\n%s", err, out)
					case refused != "" && (err == nil || !strings.Contains(string(out), "the iptables backend refuses") || !strings.Contains(string(out), refused)):
						t.Errorf("it is not refused for %q: %v\n%s", refused, err, out)
					}
				})
			}
		})
	}
}

// onIPTables names the backend in a policy file.
func onIPTables(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after, has := strings.Cut(string(text), "\ngateway:\n")
	if has {
		after = "\ngateway:\n  backend: iptables\n" + after
	} else {
		after = "\ngateway: {backend: iptables}\n"
	}
	if err := os.WriteFile(file, []byte(before+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// asIPTables is the program, to which a variant is what is called iptables.
func asIPTables(t *testing.T, dir, name string) string {
	t.Helper()
	variant.Links(t, dir, name)
	script := filepath.Join(dir, "ipmasq")
	text := fmt.Sprintf("#!/bin/sh\nPATH=%s:$PATH exec %s \"$@\"\n", dir, built.Ipmasq(t))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}
