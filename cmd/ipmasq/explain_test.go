package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainGoldens holds what explain prints of each kind of entry against
// transcripts: a command on the first line, and all that it prints.
func TestExplainGoldens(t *testing.T) {
	t.Chdir("testdata/explain")
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d transcripts: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			command, _, _ := strings.Cut(string(text), "\n")
			args, ok := strings.CutPrefix(command, "$ ipmasq ")
			if !ok {
				t.Fatalf("%s begins with %q", name, command)
			}
			var out bytes.Buffer
			p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) string { return "" }}
			code := p.run(strings.Fields(args))
			got := command + "\n" + out.String()
			if code != 0 {
				got += fmt.Sprintf("exit code %d\n", code)
			}
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("it prints\n%s\nnot\n%s", got, text)
			}
			for line := range strings.Lines(got) {
				if len(strings.TrimSuffix(line, "\n")) > helpWidth && !strings.HasPrefix(line, "$ ") && strings.Contains(strings.TrimSpace(line), " ") && !strings.Contains(line, " > ") {
					t.Errorf("wider than %d: %s", helpWidth, line)
				}
			}
		})
	}
}

// TestExplainOfDocs holds the example of the manual against what is printed.
func TestExplainOfDocs(t *testing.T) {
	t.Chdir("../..")
	page, err := os.ReadFile("docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n$ ipmasq explain ")
	text, _, _ = strings.Cut(text, "```")
	args, want, _ := strings.Cut(text, "\n")
	var out bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) string { return "" }}
	code := p.run(append([]string{"explain"}, strings.Fields(args)...))
	switch {
	case *update && code == 0:
		page = bytes.Replace(page, []byte(want), out.Bytes(), 1)
		if err := os.WriteFile("docs/commands.md", page, 0o644); err != nil {
			t.Fatal(err)
		}
	case code != 0 || out.String() != want:
		t.Errorf("exit code %d\n%s\nnot\n%s", code, &out, want)
	}
}
