package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const schemaFile = "../../docs/policy.schema.json"

// compiledSchema is the schema as a validator of others reads it.
func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	data, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(SchemaID, data); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID) // it is held to the meta-schema as well
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a node as JSON: what an editor checks. A key that is there twice
// counts once.
func instance(n *node) any {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[deref(n.Content[i]).Value] = instance(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = instance(item)
		}
		return list
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		if v, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return json.Number(strconv.FormatInt(v, 10))
		}
	case "!!float":
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil && v-v == 0 {
			return json.Number(strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	return n.Value
}

// asInstance reads a file as an editor does; ok is false for what is no YAML.
func asInstance(text []byte) (v any, ok bool) {
	defer func() { // the library panics at some inputs
		if recover() != nil {
			ok = false
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithPlugin(limits{}))
	if err != nil || !utf8.Valid(text) {
		return nil, false
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil || len(doc.Content) != 1 {
		return nil, false
	}
	w := aliasWalk{sizes: map[*node]int{}}
	if w.size(doc.Content[0]); w.loop != nil || w.bomb != nil {
		return nil, false
	}
	return instance(doc.Content[0]), true
}

// TestSchemaIsCurrent holds the file that editors are pointed to against what
// the program prints.
func TestSchemaIsCurrent(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text) {
		t.Error("docs/policy.schema.json is not what `ipmasq schema` prints; go test ./pkg/policy -run SchemaIsCurrent -update mends that")
	}
}

// TestExamplesNameTheSchema: an editor that knows the line checks an example
// as it is written. A path, since whoever has the example has the schema.
func TestExamplesNameTheSchema(t *testing.T) {
	names, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d examples (%v)", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".test.yaml") {
			continue // tests of a policy are another language
		}
		line, _, _ := strings.Cut(string(text), "\n")
		path, ok := strings.CutPrefix(line, "# yaml-language-server: $schema=")
		if !ok {
			t.Errorf("%s does not begin with the line that names the schema", name)
		} else if filepath.Join(filepath.Dir(name), path) != filepath.Clean(schemaFile) {
			t.Errorf("%s names the schema as %s", name, path)
		}
	}
}

// TestSchemaExplains: each key has a description, each definition a title and
// a use.
func TestSchemaExplains(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	count := 0
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if list, isList := v.([]any); isList {
			for i, item := range list {
				walk(path+"/"+strconv.Itoa(i), item)
			}
		}
		if !ok {
			return
		}
		if m["type"] == "object" && m["additionalProperties"] == nil {
			t.Errorf("%s: takes any key", path)
		}
		properties, _ := m["properties"].(map[string]any)
		for key, p := range properties {
			about, _ := p.(map[string]any)["description"].(string)
			if m["type"] == "object" && !strings.Contains(path, "helpers") {
				count++
				if about == "" || strings.HasSuffix(about, ".") {
					t.Errorf("%s: the description of %s is %q", path, key, about)
				}
			}
		}
		for key, x := range m {
			if key == "then" || key == "properties" && m["type"] != "object" {
				continue
			}
			walk(path+"/"+key, x)
		}
	}
	walk("", root)
	if count < 100 {
		t.Errorf("%d keys", count)
	}
	for name, d := range root["$defs"].(map[string]any) {
		if d.(map[string]any)["title"] == nil {
			t.Errorf("%s has no title", name)
		}
		if !bytes.Contains(text, []byte(`"#/$defs/`+name+`"`)) {
			t.Errorf("%s is not used", name)
		}
	}
}

// corpus are the policies of the repository, by name; those of the reference
// too.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{"testdata/*.yaml", "testdata/wrong/*.yaml", "../compile/testdata/*.yaml", "../compile/testdata/wrong/*.yaml", "../../examples/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files (%v)", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, ".test.yaml") {
				continue // tests of a policy are another language
			}
			out[name] = text
		}
	}
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```yaml( [a-z]+)?\n(.*?)^```$")
	var base string
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		block := m[2]
		if m[1] == " base" {
			base = block
		}
		if !strings.HasPrefix(block, "version") {
			block = base + "\n" + block
		}
		out["../../docs/policy.md:"+strconv.Itoa(len(out))] = []byte(block)
	}
	return out
}

// TestSchemaAgrees holds the schema against the parser over all policies that
// there are: what the parser takes, the schema takes; and what it refuses and
// the schema takes are mistakes that a schema cannot see.
func TestSchemaAgrees(t *testing.T) {
	s := compiledSchema(t)
	files := corpus(t)
	classes := unseenWords()
	var accepted, refused, caught int
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		open := readReferred
		switch {
		case strings.Contains(name, "wrong"):
			open = inTestdata
		case strings.Contains(name, "docs"):
			open = func(string) ([]byte, error) { return nil, nil }
		}
		file := name
		if strings.HasPrefix(name, "testdata/wrong") {
			file = filepath.Base(name)
		}
		_, err := parse(file, text, open)
		v, isYAML := asInstance(text)
		var invalid error
		if isYAML {
			invalid = s.Validate(v)
		}
		switch {
		case err == nil && !isYAML:
			t.Errorf("%s: the parser takes what is no YAML", name)
		case err == nil:
			if accepted++; invalid != nil {
				t.Errorf("%s: the parser takes it, and the schema does not: %v", name, invalid)
			}
		case invalid != nil:
			refused++
			caught++
		case !isYAML:
			// Any editor sees it.
		default:
			refused++
			for _, e := range err.(Errors) {
				if !parserSees(classes, text, e) {
					t.Errorf("%s: the schema takes it, and this is no mistake that a schema cannot see: %s", name, e.Message)
				}
			}
		}
	}
	t.Logf("of %d policies the parser takes %d; of the %d wrong ones that are YAML the schema refuses %d", len(files), accepted, refused, caught)
	if accepted < 180 || refused < 79 || caught < 65 {
		t.Errorf("of %d policies the parser takes %d; of the %d wrong ones that are YAML the schema refuses %d", len(files), accepted, refused, caught)
	}
}

// TestSchemaAddresses holds the grammar of addresses against package netip.
func TestSchemaAddresses(t *testing.T) {
	pattern := regexp.MustCompile("^(?:" + ipv4() + "|" + ipv6() + ")$")
	check := func(text string) {
		a, err := netip.ParseAddr(text)
		if want := err == nil && a.Zone() == ""; pattern.MatchString(text) != want {
			t.Errorf("%q: %t, and package netip says %v", text, !want, err)
		}
	}
	words := []string{"", "0", "1", "00", "255", "256", "abcd", "ABCD", "12345", "g", "1.2.3.4", "1.2.3", "01.2.3.4", "1.2.3.256"}
	// Every sequence of groups up to ten, with one or two gaps anywhere.
	for groups := range 10 {
		for _, word := range []string{"1", "fd00", "12345", "g"} {
			list := slices.Repeat([]string{word}, groups)
			check(strings.Join(list, ":"))
			for gap := range groups + 1 {
				head, tail := strings.Join(list[:gap], ":"), strings.Join(list[gap:], ":")
				check(head + "::" + tail)
				check(head + ":::" + tail)
				check(head + "::" + tail + ":1.2.3.4")
				check(head + ":" + tail + "::")
				check(head + "::" + tail + "::1")
			}
			check(strings.Join(append(list, "1.2.3.4"), ":"))
		}
	}
	for _, a := range words {
		check(a)
		for _, b := range words {
			check(a + ":" + b)
			check(a + "::" + b)
			check("::" + a + ":" + b)
			check(a + "." + b + ".1.1")
		}
	}
}

// errorsOf gives the mistakes of a text, none where it is valid.
func errorsOf(t testing.TB, text []byte) Errors {
	t.Helper()
	_, err := parse("policy.yaml", text, func(string) ([]byte, error) { return nil, nil })
	if err == nil {
		return nil
	}
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatal(err)
	}
	return errs
}
